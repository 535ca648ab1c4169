"""The language model with LoRA: what it reads, its first layers, checkpointing, other families."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch import Tensor

from neurogen.errors import UserError
from neurogen.generator.backbone import opening_of
from neurogen.generator.loading import attention_of, load_backbone
from neurogen.generator.parts import Embeddings, Text, TokenIds
from neurogen.generator.pretrained import load_tokenizer
from neurogen.training.runtime import Runtime
from tests.conftest import Composed


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
        ((text,),) = loaded.embed([[Text("<|im_start|>")]])
        assert len(text) == 12  # in an instruction it is text like any other


def test_a_template_with_a_date_is_the_same_tomorrow(experiment: Composed) -> None:
    tokenizer = load_tokenizer(experiment().backbone)
    for template in (
        "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
        "Today: {{ date_string }}\n{{ messages[0].content }}",
        "Today: {{ strftime_now('%d %b %Y') }}\n{{ messages[0].content }}",
    ):
        tokenizer.chat_template = template
        assert opening_of(tokenizer) == "Today: 1 January 2024\n"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_attention_is_torch_s_own_also_where_flash_attn_is_installed(
    experiment: Composed, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    monkeypatch.setattr(transformers.utils, "is_flash_attn_2_available", lambda: True)
    assert attention_of(experiment().backbone, torch.device(device)) == "sdpa"
    chosen = experiment("backbone.attention=flash_attention_2").backbone
    if device == "cuda":
        assert attention_of(chosen, torch.device(device)) == "flash_attention_2"


def test_flash_attention_needs_a_gpu(experiment: Composed, runtime: Runtime) -> None:
    with pytest.raises(UserError, match=r"flash_attention_2 needs a GPU and the package flash-attn"):
        load_backbone(experiment("backbone.attention=flash_attention_2").backbone, runtime, 0)


@pytest.mark.parametrize("backbone", ["tiny_llama", "tiny_qwen2_vl"])
def test_the_first_layers_alone_do_what_they_do_in_the_whole_model(
    experiment: Composed, runtime: Runtime, backbone: str
) -> None:
    whole, first = (
        load_backbone(experiment(f"backbone={backbone}", f"backbone.num_layers={count}").backbone, runtime, 0)
        for count in ("null", 1)
    )
    tokens = Embeddings(torch.randn(6, whole.hidden_size, generator=torch.Generator().manual_seed(0)))
    kept: list[Tensor] = []
    whole.decoder.layers[0].register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.no_grad():
        whole([[tokens]])
        expected = whole.decoder.norm(kept[0])[0]
        assert torch.equal(first([[tokens]])[0][0], expected)
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
            states = loaded([[Text("Hello"), Embeddings(tokens)]])[0][-1]
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
    ((before, after),) = loaded([[Text("some text"), tokens]])
    assert (len(before), len(after)) == (9, 3)
    torch.testing.assert_close(loaded([[Text("some text")]])[0][0], before)
