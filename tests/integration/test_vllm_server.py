"""A real vLLM on CPU: what it samples, and what it holds after a reload in place, against transformers."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from infra.vllm_extension import weights_digest
from infra.vllm_server import ServerError, VllmConfig, VllmServer
from tasks.generation.engine import Dispatcher, Prompt, Sample, SamplingParams

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

CONFIG = VllmConfig(dtype="float32", max_model_len=128, startup_timeout_s=400)
TOKENS = list(range(20, 60))


def _save_model(folder: Path, seed: int, hidden_size: int = 64) -> Path:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=300,
        hidden_size=hidden_size,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.2,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate(["<pad>", "<bos>", "<eos>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]
    fast.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    sizes = {"first": 64, "second": 64, "larger": 128}
    return {name: _save_model(root / name, seed, size) for seed, (name, size) in enumerate(sizes.items())}


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    log = tmp_path_factory.mktemp("logs") / "vllm.log"
    with VllmServer(CONFIG, folders["first"], "first", log=log, env=os.environ) as running:
        yield running


def _logprobs(folder: Path, token_ids: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probs [tokens - 1] of each token after the first, by transformers in fp32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.tensor([token_ids])).logits[0, :-1]
    return torch.log_softmax(logits / temperature, -1).gather(-1, torch.tensor(token_ids[1:])[:, None])[:, 0]


def _assert_holds(server: VllmServer, folder: Path) -> None:
    given = torch.tensor(server.prompt_logprobs(TOKENS))
    torch.testing.assert_close(given, _logprobs(folder, TOKENS), rtol=0, atol=1e-3)


def _sample(
    server: VllmServer, prompts: Sequence[Prompt], params: SamplingParams, per_request: int = 1
) -> list[Sample]:
    async def run() -> list[Sample]:
        async with Dispatcher([server.base_url], samples_per_request=per_request) as dispatcher:
            return [sample async for sample in dispatcher.stream(prompts, params)]

    return sorted(asyncio.run(run()), key=lambda sample: (sample.key, sample.sample_index))


def test_weights_are_reloaded_in_place_tied_head_included(server: VllmServer, folders: dict[str, Path]) -> None:
    for name in ("first", "second", "first", "second"):
        loaded = server.load(folders[name], name, digest=weights_digest(folders[name]))
        assert (loaded.version, loaded.digest) == (name, weights_digest(folders[name]))
        _assert_holds(server, folders[name])
    apart = _logprobs(folders["first"], TOKENS) - _logprobs(folders["second"], TOKENS)
    assert apart.abs().max() > 0.1  # or the test could not tell them apart


def test_a_version_that_is_held_is_not_loaded_again(server: VllmServer, folders: dict[str, Path]) -> None:
    held = server.load(folders["first"], "held")
    assert server.load(Path("not-even-looked-at"), "held") is held


def test_greedy_tokens_are_those_of_transformers(server: VllmServer, folders: dict[str, Path]) -> None:
    server.load(folders["second"], "second")
    model: Any = AutoModelForCausalLM.from_pretrained(folders["second"], dtype=torch.float32)
    expected = model.generate(torch.tensor([TOKENS]), max_new_tokens=24, do_sample=False)[0, len(TOKENS) :]
    (sample,) = _sample(server, [Prompt("q", TOKENS)], SamplingParams(max_tokens=24, temperature=0))
    assert list(sample.completion.completion_ids) == expected.tolist()


def test_logprobs_are_of_the_distribution_that_was_sampled(server: VllmServer, folders: dict[str, Path]) -> None:
    server.load(folders["second"], "second")
    params = SamplingParams(n=3, max_tokens=32, temperature=0.7, seed=1)
    for sample in _sample(server, [Prompt("q", TOKENS)], params):
        completion = sample.completion
        whole = [*completion.prompt_ids, *completion.completion_ids]
        expected = _logprobs(folders["second"], whole, temperature=0.7)[len(TOKENS) - 1 :]
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, rtol=0, atol=1e-3)
        assert (completion.finish_reason == "stop") == (completion.completion_ids[-1] == 2)


def test_seeded_samples_repeat_and_a_flood_of_prompts_does_not_kill_the_engine(
    server: VllmServer, folders: dict[str, Path]
) -> None:
    """Where prompts were prefilled in chunks, a seed would end the engine on CPU."""
    server.load(folders["second"], "second")
    prompts = [Prompt(f"q{i}", [20 + i, *TOKENS, *TOKENS]) for i in range(64)]
    params = SamplingParams(n=8, max_tokens=4, seed=3)
    alone, grouped = _sample(server, prompts, params), _sample(server, prompts, params, per_request=8)
    assert len(alone) == len(grouped) == 512
    same = [a.completion.completion_ids == b.completion.completion_ids for a, b in zip(alone, grouped, strict=True)]
    assert sum(same) >= 500  # batches round differently: a near tie may fall either way
    assert len({sample.completion.completion_ids for sample in alone}) > 400


def test_another_architecture_is_refused_and_the_old_weights_stay(server: VllmServer, folders: dict[str, Path]) -> None:
    server.load(folders["first"], "first")
    with pytest.raises(ServerError, match=r"has shape .* start a new server for another architecture"):
        server.load(folders["larger"], "larger")
    assert server.loaded is not None
    assert server.loaded.version == "first"
    _assert_holds(server, folders["first"])


def test_a_wrong_digest_is_an_error_and_a_good_load_heals(server: VllmServer, folders: dict[str, Path]) -> None:
    with pytest.raises(ServerError, match="written was 000000000000"):
        server.load(folders["second"], "torn", digest="0" * 64)
    assert server.loaded is None
    server.load(folders["second"], "second again")
    _assert_holds(server, folders["second"])


def test_a_missing_folder_is_named(server: VllmServer, folders: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent: no \*\.safetensors"):
        server.load(tmp_path / "absent", "absent")
    with pytest.raises(FileNotFoundError, match=r"absent: no config\.json"):
        VllmServer(CONFIG, tmp_path / "absent", "absent", log=tmp_path / "log", env=os.environ)


def test_a_taken_port_is_an_error(folders: dict[str, Path], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} on .* is taken"):
            VllmServer(CONFIG, folders["first"], "first", log=tmp_path / "log", env=os.environ, port=port)


def test_a_server_that_ends_at_start_shows_its_log(folders: dict[str, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"extra_args": ("--no-such-option",)})
    with pytest.raises(ServerError, match=r"(?s)ended at start with code 2.*unrecognized arguments: --no-such-option"):
        VllmServer(config, folders["first"], "first", log=tmp_path / "log", env=os.environ)


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process that is not a zombie, by id."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                found[int(folder.name)] = (int(parent), (folder / "cmdline").read_text())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_stop_leaves_no_process(server: VllmServer) -> None:
    """Last: it ends the server that the others share."""
    processes = _processes()
    tree = {pid for pid, (_, command) in processes.items() if f"--port\0{server.port}\0" in command}
    while more := {pid for pid, (parent, _) in processes.items() if parent in tree} - tree:
        tree |= more
    assert len(tree) >= 3  # supervisor, server, engine core
    server.stop()
    assert not tree & _processes().keys()
    with pytest.raises(ServerError, match="the server is gone, start a new one"):
        server.prompt_logprobs(TOKENS)
