"""What is read from outside, and bringing it here: files of the web and of the Hugging Face Hub.

in:  sources: published datasets, repositories of the Hub, models inside packages
out: their files, whole and compared with their digests, in places that all later processes read

`HF_HUB_OFFLINE=1` forbids all of it, whatever the source.
"""
