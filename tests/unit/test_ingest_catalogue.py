"""The catalogue: it names every source of the recipes, its schemas are true, and recipes take entries by name."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from infra.config import ConfigError, load_toml
from infra.fingerprint import fingerprint
from tasks.ingest.adapters.registry import ADAPTERS, find_adapter
from tasks.ingest.catalogue import Carries, Entry, System, catalogue, find_entry, schemas
from tasks.ingest.config import BenchmarkConfig, IngestConfig, SourceConfig
from tasks.ingest.conversion import convert_rows
from tasks.ingest.native import Draft, FieldError, NativeRow
from tasks.records import Domain

# Recipes § 1, as the papers write the names → data sets of the hub.
AM = {
    Domain.MATH: "open-r1/OpenR1-Math-220k SynthLabsAI/Big-Math-RL-Verified simplescaling/data_ablation_full59K "
    "AI-MO/NuminaMath-CoT meta-math/MetaMathQA AI-MO/aimo-validation-amc zwhe99/DeepMath-103K "
    "di-zhang-fdu/AIME_1983_2024",
    Domain.CODE: "PRIME-RL/Eurus-2-RL-Data agentica-org/DeepCoder-Preview-Dataset KodCode/KodCode-V1 "
    "livecodebench/code_generation open-r1/codeforces-cots open-r1/verifiable-coding-problems-python "
    "OpenCoder-LLM/opencoder-sft-stage2 open-r1/OpenThoughts-114k-Code_decontaminated TIGER-Lab/AceCode-87K",
    Domain.SCIENCE: "Muennighoff/natural-instructions avaliev/ChemistryQA nvidia/Llama-Nemotron-Post-Training-Dataset "
    "hivaze/LOGIC-701 KadamParth/NCERT_Physics_11th KadamParth/NCERT_Physics_12th KadamParth/NCERT_Chemistry_11th "
    "KadamParth/NCERT_Chemistry_12th KadamParth/NCERT_Biology_11th KadamParth/NCERT_Biology_12th longface/logicLM",
    Domain.INSTRUCTION: "nvidia/Llama-Nemotron-Post-Training-Dataset allenai/tulu-3-sft-mixture",
    Domain.CHAT: "WizardLMTeam/WizardLM_evol_instruct_V2_196k BAAI/Infinity-Instruct Open-Orca/OpenOrca "
    "allenai/tulu-3-sft-mixture facebook/natural_reasoning Open-Orca/FLAN HuggingFaceH4/ultrachat_200k "
    "teknium/OpenHermes-2.5",
}
SK = {
    Domain.MATH: "AI-MO/NuminaMath-1.5 agentica-org/DeepScaleR-Preview-Dataset RUC-AIBOX/STILL-3-Preview-RL-Data "
    "KbsdJames/Omni-MATH di-zhang-fdu/AIME_1983_2024",
    Domain.CODE: "newfacade/LeetCodeDataset BAAI/TACO",
}


@pytest.mark.parametrize(("system", "named"), [(System.AM, AM), (System.SK, SK)])
def test_every_source_of_both_systems_is_there(system: System, named: dict[Domain, str]) -> None:
    for domain in Domain:
        found = {
            entry.hub
            for entry in catalogue().values()
            if system in entry.systems and entry.domain is domain and not entry.is_benchmark
        }
        assert found == set(named.get(domain, "").split()), domain


def test_names_of_entries_are_fit_for_row_ids_and_notes_say_what_is_not_certain() -> None:
    for entry in catalogue().values():
        assert entry.name == entry.name.strip().lower(), entry.name
        assert entry.license, entry.name
        if entry.name.startswith(("amc_2023", "livecodebench_generation", "logic_lm", "task_mmmlu")):
            assert entry.note, entry.name


def test_skywork_takes_seven_parts_of_numinamath_and_aime_before_2024() -> None:
    numina, aime = find_entry("numinamath_1_5"), find_entry("aime_before_2024")
    parts = ("amc_aime", "olympiads", "olympiads_ref", "aops_forum", "cn_contest", "inequalities", "number_theory")
    assert all(numina.refusal({"source": part}) is None for part in parts)
    assert numina.refusal({"source": "cn_k12"}) == f"source is 'cn_k12'; only {numina.only['source']}"
    assert [aime.refusal({"Year": year}) is None for year in (1983, 2023, 2024)] == [True, True, False]


def test_livecodebench_windows_differ() -> None:
    dates = ["2024-07-31T00:00:00", "2024-08-01", "2024-09-30", "2024-10-01 00:00:00", "2025-02-28", "2025-03-01"]
    kept = {
        name: [find_entry(name).refusal({"contest_date": date}) is None for date in dates]
        for name in ("hub_livecodebench_am", "hub_livecodebench_sk", "livecodebench_generation")
    }
    assert kept["hub_livecodebench_am"] == [False, False, False, True, True, False]
    assert kept["hub_livecodebench_sk"] == [False, True, True, True, True, False]
    assert kept["livecodebench_generation"] == [True, False, False, False, False, False]


def carried(draft: Draft) -> Carries:
    """What a query can be judged by, the most telling first."""
    given = {
        Carries.TESTS: draft.tests,
        Carries.CONSTRAINTS: draft.constraints,
        Carries.CHOICES: draft.choices,
        Carries.ANSWER: draft.answer,
    }
    return next((each for each, value in given.items() if value), Carries.NONE)


def test_what_entries_carry_is_what_their_schema_gives() -> None:
    drafts = {name: find_adapter(name)(NativeRow(schema.row)) for name, schema in schemas().items()}
    for entry in catalogue().values():
        draft = drafts[entry.adapter]
        assert (entry.carries, entry.domain) == (carried(draft), draft.domain), entry.name


def test_every_adapter_has_a_schema_and_every_schema_an_entry() -> None:
    assert set(schemas()) == set(ADAPTERS) == {entry.adapter for entry in catalogue().values()}


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
def test_needed_columns_are_needed_and_named_when_missing_and_others_may_go(adapter: str) -> None:
    schema = schemas()[adapter]
    for column in schema.row:
        row = {name: value for name, value in schema.row.items() if name != column}
        if column in schema.needs:
            with pytest.raises(FieldError, match=f"`{column}` is missing|`{column}` is not JSON"):
                ADAPTERS[adapter](NativeRow(row))
        else:
            assert ADAPTERS[adapter](NativeRow(row)).messages


def test_columns_that_no_adapter_takes_are_kept_in_the_meta() -> None:
    for name in ADAPTERS:
        row = schemas()[name].row | {"a new column": [1]}
        config = SourceConfig(name="toy", file="a.jsonl", adapter=name, license="MIT")
        (found,) = convert_rows([row], config)
        assert found.reason is None, name
        assert found.query.meta["a new column"] == [1], name  # type: ignore[union-attr]


def test_a_recipe_takes_an_entry_by_name_and_may_change_any_field() -> None:
    short: dict[str, Any] = {"catalogue": "numinamath_1_5", "limit": 100, "license": "see the card"}
    config = SourceConfig.model_validate(short)
    spelled = {
        "name": "numinamath_1_5",
        "hub": "AI-MO/NuminaMath-1.5",
        "only": find_entry("numinamath_1_5").only,
        "adapter": "numina_1_5",
        "license": "see the card",
        "limit": 100,
    }
    assert config == SourceConfig.model_validate(spelled)
    assert fingerprint(config) == fingerprint(SourceConfig.model_validate(spelled))
    assert config.refusal({"source": "cn_k12"}) is not None
    # Written out and read again, as a deployment passes a recipe on.
    assert SourceConfig.model_validate(config.model_dump()) == config


def test_a_file_takes_the_place_of_the_hub_and_the_reverse() -> None:
    local = SourceConfig.model_validate({"catalogue": "chemistry_qa", "file": "raw/chemistry_qa.parquet"})
    assert (local.origin, local.hub, local.revision) == ("raw/chemistry_qa.parquet", None, None)
    hub = SourceConfig.model_validate({"catalogue": "deepmath", "hub": "me/mine", "split": "all"})
    assert (hub.origin, hub.file) == ("me/mine:all", None)


def test_benchmarks_are_never_trained_on() -> None:
    with pytest.raises(ValidationError, match="hub_aime25 is a benchmark, and those are never trained on"):
        SourceConfig.model_validate({"catalogue": "hub_aime25"})
    config = BenchmarkConfig.model_validate({"catalogue": "hub_aime25"})
    assert (config.name, config.origin) == ("hub_aime25", "math-ai/aime25:test")


def test_mistakes_are_told_with_their_place(tmp_path: Path) -> None:
    recipe = tmp_path / "r.toml"
    recipe.write_text('[[sources]]\ncatalogue = "depmath"\n')
    with pytest.raises(ConfigError, match=r"sources\.0: .*no `depmath`; did you mean deepmath"):
        load_toml(recipe, IngestConfig)
    recipe.write_text('[[sources]]\ncatalogue = "deepmath"\nlicence = "MIT"\n')
    with pytest.raises(ConfigError, match="did you mean `license`"):
        load_toml(recipe, IngestConfig)


def test_an_origin_is_a_file_or_a_data_set() -> None:
    def entry(**fields: Any) -> Entry:
        return Entry.model_validate(
            {"name": "x", "adapter": "gsm8k", "domain": "math", "license": "", "carries": "answer"} | fields
        )

    for fields, told in (
        ({}, "give one of `file`"),
        ({"file": "a.jsonl", "hub": "a/b"}, "give one of `file`"),
        ({"file": "a.jsonl", "split": "test"}, "`split` is of a data set of the hub"),
        ({"hub": "a/b", "files": "x/*.jsonl", "split": "test"}, "take `subset` and `split` out"),
        ({"hub": "no-owner"}, "hub"),
        ({"file": "a.jsonl", "only": {"source": "("}}, "column source: '\\(' is no regular expression"),
    ):
        with pytest.raises(ValidationError, match=told):
            entry(**fields)
    assert entry(hub="a/b", subset="c", split="d").origin == "a/b:c:d"
