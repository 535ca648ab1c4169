/* Calls of the C library that change files below FAULT_ROOT, counted over all processes of a program, and made to fail.

in:  FAULT_ROOT   folder whose files are meant; without it every call goes straight through
     FAULT_COUNT  file of 8 bytes with the number of calls so far, shared by all processes
     FAULT_LOG    file that gets a line per call: number, name, path, new path or -, inode, size
     FAULT_KEEP   folder that gets a hard link to every file that is flushed, so that its inode lives on
     FAULT_AT     number of the call that fails
     FAULT_KIND   an errno's name; SHORT: a write writes half; KILL: the process dies before the call
     FAULT_LASTS  set: every later call that needs room on the disk fails as well
     FAULT_LOCK   an errno's name: what flock says below FAULT_ROOT
     FAULT_SLOW   milliseconds that every flush below FAULT_ROOT takes longer
     FAULT_LATE   path; of it and what lies below, names that others gave show themselves late, as over a network:
     FAULT_LATE_CALLS  so many times each name is missing where it is looked for, opened for reading or listed
     FAULT_LATE_ERROR  an errno's name: what is said then; ENOENT by default. With others the name is listed
out: the calls' results, or -1 with errno */

#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))real(#name))
#define MOST_FILES 4096

enum { GO = 0, FAIL = 1, HALF = 2 };

static _Atomic int is_written[MOST_FILES]; /* by descriptor: opened for writing below the root */

static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static const struct { const char *name; int number; } ERRORS[] = {
    {"ENOSPC", ENOSPC}, {"EIO", EIO}, {"EDQUOT", EDQUOT}, {"ENOLCK", ENOLCK}, {"ENOTSUP", ENOTSUP}, {"ENOSYS", ENOSYS},
    {"ESTALE", ESTALE}, {"ENOENT", ENOENT},
};

static int error_named(const char *name) {
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++)
        if (name && !strcmp(ERRORS[i].name, name)) return ERRORS[i].number;
    return 0;
}

static int is_below(const char *path, const char *variable) {
    const char *root = getenv(variable);
    size_t length = root ? strlen(root) : 0;
    return length && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static int is_below_root(const char *path) { return is_below(path, "FAULT_ROOT"); }

/* The absolute path of a name beside a folder's descriptor; "" where it is unknown. */
static void absolute(int folder, const char *path, char *result) {
    char base[PATH_MAX] = "", link[64];
    *result = 0;
    if (path[0] == '/') { snprintf(result, PATH_MAX, "%s", path); return; }
    if (folder == AT_FDCWD) { if (!getcwd(base, sizeof base)) return; }
    else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, base, sizeof base - 1);
        if (length < 0) return;
        base[length] = 0;
    }
    if (strlen(base) + strlen(path) + 2 < PATH_MAX) { strcpy(result, base); if (*path) { strcat(result, "/"); strcat(result, path); } }
}

/* How often each name has been looked for, by its hash. Names of this program's own are seen at once. */
static struct { _Atomic uint64_t name; _Atomic int count; } lookups[MOST_FILES];

static _Atomic int *lookups_of(const char *path) {
    uint64_t name = 14695981039346656037u; /* FNV-1a */
    for (const char *sign = path; *sign; sign++) name = (name ^ (unsigned char)*sign) * 1099511628211u;
    for (uint64_t place = name % MOST_FILES;; place = (place + 1) % MOST_FILES) {
        uint64_t nobody = 0;
        if (atomic_compare_exchange_strong(&lookups[place].name, &nobody, name) || nobody == name)
            return &lookups[place].count;
    }
}

static void named_here(const char *path) {
    if (is_below(path, "FAULT_LATE")) *lookups_of(path) = INT_MAX / 2;
}

/* Whether this look at a name comes too early; errno says how. */
static int is_late(const char *path, int is_listed) {
    const char *error = getenv("FAULT_LATE_ERROR"), *calls = getenv("FAULT_LATE_CALLS");
    int before = errno, number = error ? error_named(error) : ENOENT;
    struct stat about;
    if (!calls || !is_below(path, "FAULT_LATE") || (is_listed && number != ENOENT)) return 0;
    int is_there = !REAL(lstat)(path, &about);
    errno = before;
    if (!is_there || atomic_fetch_add(lookups_of(path), 1) >= atoi(calls)) return 0;
    errno = number;
    return 1;
}

static int is_late_in(int folder, const char *path) {
    char whole[PATH_MAX];
    if (!getenv("FAULT_LATE") || !*path) return 0;
    absolute(folder, path, whole);
    return is_late(whole, 0);
}

int stat64(const char *path, struct stat64 *about) { return is_late_in(AT_FDCWD, path) ? -1 : REAL(stat64)(path, about); }
int lstat64(const char *path, struct stat64 *about) { return is_late_in(AT_FDCWD, path) ? -1 : REAL(lstat64)(path, about); }
int fstatat64(int folder, const char *path, struct stat64 *about, int flags) {
    return is_late_in(folder, path) ? -1 : REAL(fstatat64)(folder, path, about, flags);
}
int access(const char *path, int mode) { return is_late_in(AT_FDCWD, path) ? -1 : REAL(access)(path, mode); }
int faccessat(int folder, const char *path, int mode, int flags) {
    return is_late_in(folder, path) ? -1 : REAL(faccessat)(folder, path, mode, flags);
}

struct dirent64 *readdir64(DIR *listing) {
    char folder[PATH_MAX], whole[PATH_MAX + 256];
    struct dirent64 *entry;
    if (getenv("FAULT_LATE")) absolute(dirfd(listing), "", folder);
    while ((entry = REAL(readdir64)(listing)) && getenv("FAULT_LATE")) {
        snprintf(whole, sizeof whole, "%s/%s", folder, entry->d_name);
        if (entry->d_name[0] == '.' && strspn(entry->d_name, ".") == strlen(entry->d_name)) break;
        if (!is_late(whole, 1)) break;
        errno = 0; /* else the end of the listing would be an error */
    }
    return entry;
}

static unsigned long long next_number(void) {
    static _Atomic unsigned long long *count; /* inherited by forks: the mapping is shared */
    if (!count) {
        int file = REAL(open)(getenv("FAULT_COUNT"), O_RDWR);
        void *mapped = mmap(NULL, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        REAL(close)(file);
        if (mapped == MAP_FAILED) abort();
        count = mapped;
    }
    return atomic_fetch_add(count, 1) + 1;
}

static void note(unsigned long long number, const char *name, const char *path, const char *other) {
    const char *log = getenv("FAULT_LOG");
    if (!log) return;
    struct stat about = {0};
    REAL(lstat)(path, &about);
    char line[2 * PATH_MAX + 128];
    int length = snprintf(line, sizeof line, "%llu\t%s\t%s\t%s\t%llu\t%lld\n", number, name, path, other ? other : "-",
                          (unsigned long long)about.st_ino, (long long)about.st_size);
    int file = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT, 0644);
    if (file >= 0) { if (REAL(write)(file, line, length) < 0) abort(); REAL(close)(file); }
}

/* What becomes of this call. */
static int judge(const char *name, const char *path, const char *other, int needs_room) {
    if (!is_below_root(path)) return GO;
    int before = errno;
    unsigned long long number = next_number();
    note(number, name, path, other);
    const char *at = getenv("FAULT_AT"), *kind = getenv("FAULT_KIND");
    unsigned long long chosen = at ? strtoull(at, NULL, 10) : 0;
    errno = before;
    int is_hit = chosen && (number == chosen || (number > chosen && needs_room && getenv("FAULT_LASTS")));
    if (!is_hit || !kind) return GO;
    if (!strcmp(kind, "KILL")) { kill(getpid(), SIGKILL); pause(); }
    if (!strcmp(kind, "SHORT")) return strcmp(name, "write") ? GO : HALF;
    errno = error_named(kind);
    return errno ? FAIL : GO;
}

static int judge_descriptor(const char *name, int file, int needs_room) {
    char path[PATH_MAX];
    if (!getenv("FAULT_ROOT")) return GO;
    absolute(file, "", path);
    return judge(name, path, NULL, needs_room);
}

static void opened(int file, const char *path, int flags) {
    if (file < 0 || file >= MOST_FILES) return;
    is_written[file] = is_below_root(path) && (flags & O_ACCMODE) != O_RDONLY;
}

static int changes(int flags) { return flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC); }

#define OPENING(call, folder)                                                                                          \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list rest; va_start(rest, flags); mode = va_arg(rest, mode_t); va_end(rest); } \
    char whole[PATH_MAX];                                                                                              \
    absolute(folder, path, whole);                                                                                     \
    if (changes(flags)) {                                                                                              \
        struct stat about;                                                                                             \
        const char *name = REAL(lstat)(whole, &about) ? "create" : flags & O_TRUNC ? "truncate" : "open";                    \
        if (judge(name, whole, NULL, 1) == FAIL) return -1;                                                            \
    } else if (is_late(whole, 0)) return -1;                                                                           \
    int file = call;                                                                                                   \
    if (file >= 0 && changes(flags)) named_here(whole);                                                                \
    opened(file, whole, flags);                                                                                        \
    return file;

int open(const char *path, int flags, ...) { OPENING(REAL(open)(path, flags, mode), AT_FDCWD) }
int open64(const char *path, int flags, ...) { OPENING(REAL(open64)(path, flags, mode), AT_FDCWD) }
int openat(int folder, const char *path, int flags, ...) { OPENING(REAL(openat)(folder, path, flags, mode), folder) }
int openat64(int folder, const char *path, int flags, ...) { OPENING(REAL(openat64)(folder, path, flags, mode), folder) }

ssize_t write(int file, const void *bytes, size_t count) {
    int answer = judge_descriptor("write", file, 1);
    if (answer == FAIL) return -1;
    return REAL(write)(file, bytes, answer == HALF && count > 1 ? count / 2 : count);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    int answer = judge_descriptor("write", file, 1);
    if (answer == FAIL) return -1;
    return REAL(writev)(file, parts, answer == HALF && count > 1 ? count / 2 : count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t at) {
    int answer = judge_descriptor("write", file, 1);
    if (answer == FAIL) return -1;
    return REAL(pwrite64)(file, bytes, answer == HALF && count > 1 ? count / 2 : count, at);
}

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t count, unsigned flags) {
    if (judge_descriptor("write", to, 1) == FAIL) return -1;
    return REAL(copy_file_range)(from, from_at, to, to_at, count, flags);
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t count) {
    if (judge_descriptor("write", to, 1) == FAIL) return -1;
    return ((ssize_t(*)(int, int, off64_t *, size_t))real("sendfile64"))(to, from, at, count);
}

ssize_t sendfile(int to, int from, off_t *at, size_t count) {
    if (judge_descriptor("write", to, 1) == FAIL) return -1;
    return ((ssize_t(*)(int, int, off_t *, size_t))real("sendfile"))(to, from, at, count);
}

int ftruncate64(int file, off64_t length) {
    return judge_descriptor("write", file, 1) == FAIL ? -1 : REAL(ftruncate64)(file, length);
}

int ftruncate(int file, off_t length) {
    return judge_descriptor("write", file, 1) == FAIL ? -1 : REAL(ftruncate)(file, length);
}

static void wait_as_slow_disks_do(int file) {
    const char *slow = getenv("FAULT_SLOW");
    char path[PATH_MAX];
    long milliseconds = slow ? strtol(slow, NULL, 10) : 0;
    absolute(file, "", path);
    if (!milliseconds || !is_below_root(path)) return;
    struct timespec left = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    while (nanosleep(&left, &left) && errno == EINTR) continue; /* a signal makes no disk faster */
}

static int flush(int file, int (*call)(int)) {
    if (judge_descriptor("fsync", file, 0) == FAIL) return -1;
    wait_as_slow_disks_do(file);
    const char *keep = getenv("FAULT_KEEP");
    struct stat about;
    char path[PATH_MAX], kept[PATH_MAX];
    if (keep && !fstat(file, &about) && S_ISREG(about.st_mode)) {
        absolute(file, "", path);
        snprintf(kept, sizeof kept, "%s/%llu", keep, (unsigned long long)about.st_ino);
        if (is_below_root(path)) (void)!REAL(link)(path, kept);
    }
    return call(file);
}

int fsync(int file) { return flush(file, REAL(fsync)); }
int fdatasync(int file) { return flush(file, REAL(fdatasync)); }

int close(int file) {
    int is_hit = file >= 0 && file < MOST_FILES && is_written[file] && judge_descriptor("close", file, 0) == FAIL;
    int number = errno;
    if (file >= 0 && file < MOST_FILES) is_written[file] = 0;
    int result = REAL(close)(file);
    if (is_hit) { errno = number; return -1; }
    return result;
}

static int renaming(int from, const char *old, int to, const char *new) {
    char first[PATH_MAX], second[PATH_MAX];
    absolute(from, old, first);
    absolute(to, new, second);
    int answer = judge("rename", first, second, 0);
    if (answer != FAIL) named_here(second);
    return answer;
}

int rename(const char *old, const char *new) {
    return renaming(AT_FDCWD, old, AT_FDCWD, new) == FAIL ? -1 : REAL(rename)(old, new);
}

int renameat(int from, const char *old, int to, const char *new) {
    return renaming(from, old, to, new) == FAIL ? -1 : REAL(renameat)(from, old, to, new);
}

static int changing(const char *name, int folder, const char *path, int needs_room) {
    char whole[PATH_MAX];
    absolute(folder, path, whole);
    int answer = judge(name, whole, NULL, needs_room);
    if (answer != FAIL && needs_room) named_here(whole);
    return answer;
}

int mkdir(const char *path, mode_t mode) {
    struct stat about;
    if (!REAL(stat)(path, &about)) { errno = EEXIST; return -1; } /* which needs no room */
    return changing("mkdir", AT_FDCWD, path, 1) == FAIL ? -1 : REAL(mkdir)(path, mode);
}

int symlink(const char *target, const char *path) {
    return changing("symlink", AT_FDCWD, path, 1) == FAIL ? -1 : REAL(symlink)(target, path);
}

int unlink(const char *path) { return changing("unlink", AT_FDCWD, path, 0) == FAIL ? -1 : REAL(unlink)(path); }

int unlinkat(int folder, const char *path, int flags) {
    return changing("unlink", folder, path, 0) == FAIL ? -1 : REAL(unlinkat)(folder, path, flags);
}

int rmdir(const char *path) { return changing("rmdir", AT_FDCWD, path, 0) == FAIL ? -1 : REAL(rmdir)(path); }

int flock(int file, int operation) {
    char path[PATH_MAX];
    int number = error_named(getenv("FAULT_LOCK"));
    absolute(file, "", path);
    if (number && is_below_root(path)) { errno = number; return -1; }
    return REAL(flock)(file, operation);
}
