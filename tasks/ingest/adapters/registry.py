"""Adapters by name; `package.module:function` names one of your own."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from tasks.ingest.adapters import (
    code,
    dialog,
    hub_code,
    hub_dialog,
    hub_mathematics,
    hub_science,
    mathematics,
    science,
)
from tasks.ingest.native import Draft, NativeRow

Adapter = Callable[[NativeRow], Draft]

_ALL: tuple[Adapter, ...] = (
    mathematics.aime,
    mathematics.aime_verl,
    mathematics.aimo,
    mathematics.amc,
    mathematics.deepmath,
    mathematics.gaokao,
    mathematics.gsm8k,
    mathematics.hendrycks_math,
    mathematics.math500,
    mathematics.minerva,
    mathematics.minif2f,
    mathematics.multi_subject,
    mathematics.olympiadbench,
    science.agieval,
    science.agieval_math,
    science.mmlu_mcq,
    science.mmlu_stem,
    science.qasc,
    science.scibench,
    code.acecode,
    code.code_contests,
    code.codeforces,
    code.humaneval,
    code.leetcode,
    code.leetcode_weekly,
    code.mbpp,
    code.mbpp_sanitized,
    code.taco,
    dialog.alpaca,
    dialog.arena_hard,
    dialog.autoif,
    dialog.evol_instruct,
    dialog.followbench,
    dialog.ifeval,
    dialog.mt_bench,
    dialog.preference,
    dialog.self_instruct,
    dialog.sharegpt,
    dialog.tulu_eval_instances,
    hub_mathematics.aime_2025,
    hub_mathematics.aime_table,
    hub_mathematics.big_math,
    hub_mathematics.deepmath_103k,
    hub_mathematics.deepscaler,
    hub_mathematics.metamath,
    hub_mathematics.numina_1_5,
    hub_mathematics.numina_cot,
    hub_mathematics.omni_math,
    hub_mathematics.openr1_math,
    hub_mathematics.s1_full,
    hub_mathematics.still_3,
    hub_science.chemistry_qa,
    hub_science.logic_701,
    hub_science.mmlu,
    hub_science.natural_instructions,
    hub_science.ncert,
    hub_science.nemotron_science,
    hub_science.question_answer,
    hub_code.codeforces_cots,
    hub_code.deepcoder,
    hub_code.eurus,
    hub_code.kodcode,
    hub_code.leetcode_dataset,
    hub_code.livecodebench,
    hub_code.opencoder,
    hub_code.openthoughts_code,
    hub_code.taco_problems,
    hub_code.verifiable_coding,
    hub_dialog.flan,
    hub_dialog.messages,
    hub_dialog.messages_if,
    hub_dialog.natural_reasoning,
    hub_dialog.nemotron_if,
    hub_dialog.open_orca,
)
ADAPTERS: dict[str, Adapter] = {adapter.__name__: adapter for adapter in _ALL}


def find_adapter(name: str) -> Adapter:
    """The adapter of a name, or the function at `package.module:function`.

    Raises:
        ValueError: there is none.
    """
    if ":" in name:
        module, _, function = name.partition(":")
        adapter: Adapter = getattr(importlib.import_module(module), function)
        return adapter
    if name not in ADAPTERS:
        raise ValueError(f"no adapter `{name}`; known: {', '.join(sorted(ADAPTERS))}; or name package.module:function")
    return ADAPTERS[name]
