"""Model cards: figures from a results file, snippets that ran, valid front matter, licences of base models."""

import json
import re
import shutil

import pytest
import torch
import yaml
from huggingface_hub import DatasetCardData, ModelCardData, parse_eval_result_entries
from huggingface_hub.repocard import RepoCard

from command_line import refused, run
from seed_hf import SeedForConditionalGeneration
from seed_hf.artifacts.kinds import KINDS, class_name_in, load_class
from seed_hf.artifacts.loading import load_tokenizer
from seed_hf.artifacts.whole import problems
from seed_hf.evaluation.result import model_facts
from seed_hf.hub import kind_of, write_card
from seed_hf.hub.front_matter import check_card, size_category, wrong_keys
from seed_hf.hub.snippet import SWITCH
from tiny_artifacts import tiny_evaluation
from yaml_bomb import bomb


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_card_that_the_hub_takes(artifact, kind):
    folder = artifact(kind)
    assert kind_of(folder) == kind and problems(folder, kind) == []
    assert write_card(folder, base_model="facebook/opt-125m", datasets=["owner/pictures"]) == folder / "README.md"
    text = (folder / "README.md").read_text()
    metadata = check_card(text, kind)
    assert "seed_hf" in metadata["tags"] and text.count("\n# thing\n") == 1
    assert (DatasetCardData if kind == "dataset" else ModelCardData)(**metadata).to_dict() == metadata
    for part in ("## Use", "## What it is for", "## Limits", "## Licence", "## Citation", "arxiv.org/abs/2307.08041"):
        assert part in text
    assert "None" not in text and "{{" not in text and "\n\n\n" not in text and "This program ran" not in text
    assert "## Results" not in text and not (folder / "results.json").exists()  # nothing was measured
    if kind != "dataset":
        assert metadata["base_model"][0] == "facebook/opt-125m" and metadata["datasets"] == ["owner/pictures"]
        assert metadata["license"] == "other" and metadata["license_name"] == "opt-license"
        assert "OPT-175B licence" in text and "no commercial use" in text


@pytest.mark.parametrize("name", ["codes [v2]", "codes::x", "of * [v2]/codes"])
def test_a_data_set_in_a_folder_whose_name_is_a_pattern(artifact, tmp_path, monkeypatch, name):
    monkeypatch.delenv(SWITCH)
    folder = shutil.copytree(artifact("dataset"), tmp_path / name)
    assert "This program ran" in write_card(folder, repo_id="owner/codes").read_text()
    if name.endswith("/codes"):  # not in its own name, which the card shows
        assert 'place = "codes"' in write_card(folder).read_text()
    else:
        refused("card", folder, words="rename the folder, or give the id of its repository")


@pytest.mark.parametrize("kind", ["tokenizer", "dataset"])
def test_the_snippet_ran_and_its_output_is_shown(artifact, kind, monkeypatch):
    monkeypatch.delenv(SWITCH)
    folder = artifact(kind)
    text = write_card(folder, repo_id="owner/thing").read_text()
    program = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    assert 'place = "owner/thing"' in program
    printed = re.search(r"This program ran.*?```\n(.*?)\n```", text, re.DOTALL)[1].splitlines()
    if kind == "tokenizer":
        from PIL import Image

        from seed_hf import SeedImageProcessor, SeedTokenizer

        pixels = SeedImageProcessor.from_pretrained(folder)(Image.new("RGB", (256, 256), "red"), return_tensors="pt")
        codes = SeedTokenizer.from_pretrained(folder).encode(pixels.pixel_values)
        assert printed == [str(codes[0].tolist()), "(1, 6, 20)"]
    else:
        assert printed[0] == "6"


@pytest.mark.parametrize("kind", ["pipeline", "language_model"])
def test_weights_of_a_variant_alone_are_asked_for_by_name(artifact, kind, monkeypatch):
    monkeypatch.delenv(SWITCH)
    folder = artifact(kind)
    for path in folder.rglob("*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    assert problems(folder, kind) == []
    text = write_card(folder).read_text()
    assert 'from_pretrained(place, variant="fp16")' in text and "This program ran" in text
    assert 'from_pretrained("thing", variant="fp16", trust_remote_code=True)' in text


def test_a_snippet_that_fails_leaves_the_old_card(artifact, monkeypatch):
    monkeypatch.delenv(SWITCH)
    folder = artifact("tokenizer")
    (folder / "model.safetensors").write_bytes(b"damaged")
    (folder / "README.md").write_text("old")
    with pytest.raises(ValueError, match="usage snippet of its card does not run"):
        write_card(folder)
    assert (folder / "README.md").read_text() == "old"
    (folder / "README.md").unlink()
    with pytest.raises(ValueError):
        write_card(folder)
    assert not (folder / "README.md").exists()


def test_results_of_tasks_are_tables_and_entries(artifact, tmp_path):
    folder, first, second = artifact("model"), tmp_path / "retrieval.json", tmp_path / "caption.json"
    first.write_text(json.dumps(tiny_evaluation(folder)))
    figures = {"all": {"CIDEr-D": 119.25, "exact_match": 3.5, "num_images": 5000}}
    second.write_text(json.dumps(tiny_evaluation(folder, "caption", figures)))
    text = write_card(folder, results=[first, second], evaluation_dataset="owner/coco").read_text()
    assert "### retrieval on coco-karpathy, test" in text and "| R@m | 53.12 | 61.25 |" in text
    assert "- max_text_tokens is 32; the authors' is 35" in text and "| CIDEr-D | 119.25 |" in text
    assert check_card(text, "model")["metrics"] == ["recall", "cider"]
    entries = parse_eval_result_entries(yaml.safe_load((folder / ".eval_results" / "test.yaml").read_text()))
    assert {entry.task_id: entry.value for entry in entries} == {
        "test_retrieval_codes_r_at_m": 53.125,
        "test_retrieval_embeddings_r_at_m": 61.25,
        "test_caption_cider_d": 119.25,
        "test_caption_exact_match": 3.5,
    }
    assert {(entry.dataset_id, entry.date) for entry in entries} == {("owner/coco", "2026-01-02")}
    # a card that is written again finds them in the folder; {} takes them away
    assert write_card(folder, evaluation_dataset="owner/coco").read_text() == text
    assert "53.12" in write_card(folder).read_text() and not list(folder.glob(".eval_results/*.yaml"))
    assert "53.12" not in write_card(folder, results={}).read_text() and not (folder / "results.json").exists()
    only = artifact("tokenizer", "other")
    SeedForConditionalGeneration.from_pretrained(folder).visual_tokenizer.save_pretrained(only)
    only = write_card(only, results=[first, second]).read_text()
    assert "retrieval on" in only and "caption on" not in only  # a tokenizer writes no captions


def test_results_of_tasks_that_do_not_belong_together_are_refused(artifact, tmp_path):
    folder, one, other = artifact("model"), tmp_path / "one.json", tmp_path / "other.json"
    one.write_text(json.dumps(tiny_evaluation(folder)))
    foreign = {"class": "SeedTokenizer", "dtype": "float32", "sha256": "00" * 32}
    other.write_text(json.dumps(tiny_evaluation(folder, model=foreign)))
    with pytest.raises(ValueError, match="do not belong together: they are of different weights of a SeedTokenizer"):
        write_card(folder, results=[one, other])
    other.write_text(json.dumps(tiny_evaluation(folder, data={"format": "flickr30k", "rows": 3})))
    assert "### retrieval on flickr30k" in write_card(folder, results=[one, other]).read_text()
    with pytest.raises(ValueError, match="several data sets .coco-karpathy, flickr30k."):
        write_card(folder, results=[one, other], evaluation_dataset="owner/coco")
    part = tiny_evaluation(folder, data={"format": "flickr30k", "rows": 3, "limit": 3})
    text = write_card(folder, results=part, evaluation_dataset="owner/flickr").read_text()
    assert "Some were measured on a part of the data" in text and "the first 3 rows: not comparable" in text
    assert not list(folder.glob(".eval_results/*.yaml"))


def test_results_of_one_model_in_several_number_types_go_together(artifact):
    folder = artifact("tokenizer")
    half = load_tokenizer(folder, device="cpu", dtype="bfloat16")[0]
    first, second = tiny_evaluation(folder), tiny_evaluation(folder, model=model_facts(half))
    assert first["model"]["sha256"] != second["model"]["sha256"]
    text = write_card(folder, results={"evaluations": [first, second]}).read_text()
    assert "5000 rows, float32." in text and "5000 rows, bfloat16." in text
    second["model"]["sha256"] = "00" * 32
    with pytest.raises(ValueError, match="other weights"):
        write_card(folder, results={"evaluations": [first, second]})


@pytest.mark.parametrize("kind", ["tokenizer", "model", "language_model", "pipeline"])
def test_results_of_other_weights_are_refused(artifact, kind):
    folder = artifact(kind)
    thing = load_class(class_name_in(folder, kind)).from_pretrained(folder)
    parts = {"unet": model_facts(thing.unet)} if kind == "pipeline" else {}
    result = tiny_evaluation(artifact("tokenizer", "foreign"), "caption", {"all": {"CIDEr-D": 119.25}})
    result["model"] = {**model_facts(getattr(thing, "seed_model", thing)), **parts}
    assert ("119.25" in write_card(folder, results=result).read_text()) == (kind != "tokenizer")  # it writes none
    before = (folder / "README.md").read_text()
    moved = thing.unet if kind == "pipeline" else thing
    with torch.no_grad():
        next(moved.parameters()).add_(1)
    moved.save_pretrained(folder / "unet" if kind == "pipeline" else folder)
    for results in (result, None):  # None: those in the folder, which it had before
        with pytest.raises(ValueError, match=f"of other weights than those of the {type(moved).__name__} in "):
            write_card(folder, results=results)
    assert (folder / "README.md").read_text() == before
    assert "119.25" not in write_card(folder, results={}).read_text()


def test_results_of_a_class_that_the_folder_lacks_are_refused(artifact):
    """A caption is of the whole model, so nobody can tell whose language model wrote it."""
    whole = {"class": "SeedForConditionalGeneration", "dtype": "float32", "sha256": "00" * 32}
    result = tiny_evaluation(artifact("model"), "caption", {"all": {"CIDEr-D": 119.25}}, model=whole)
    folder = artifact("language_model", "alone")
    with pytest.raises(ValueError, match="results of caption are of a SeedForConditionalGeneration, and .* none"):
        write_card(folder, results=result)
    assert not (folder / "results.json").exists() and not (folder / "README.md").exists()


def test_an_error_about_results_leaves_the_old_card(artifact):
    folder = artifact("tokenizer")
    one = tiny_evaluation(folder)
    other = tiny_evaluation(folder, data={"format": "flickr30k", "rows": 3})
    before = write_card(folder, results=one).read_text()
    with pytest.raises(ValueError, match="several data sets"):
        write_card(folder, results={"evaluations": [one, other]}, evaluation_dataset="you/data")
    assert (folder / "README.md").read_text() == before and "flickr30k" not in (folder / "results.json").read_text()
    odd = tiny_evaluation(folder, data={"format": "coco-karpathy", "split": "test/2017", "rows": 3})
    write_card(folder, results=odd, evaluation_dataset="you/data")
    assert [path.name for path in (folder / ".eval_results").iterdir()] == ["test_2017.yaml"]


def test_notes_stand_beside_what_was_recorded(artifact):
    folder = artifact("language_model")
    recorded = {"base_model": ["facebook/opt-2.7b"], "trainer": {"learning_rate": 0.001}}
    (folder / "train_config.json").write_text(json.dumps(recorded))
    (folder / "card.yaml").write_text("training: {notes: three days on a laptop}")
    for text in (write_card(folder).read_text(), write_card(folder, training={**recorded, "steps": 5}).read_text()):
        assert "three days on a laptop" in text and "| trainer.learning_rate | 0.001 |" in text
        assert check_card(text, "language_model")["base_model"] == ["facebook/opt-2.7b"] and "opt-license" in text
    assert "notes" not in json.loads((folder / "train_config.json").read_text())


def test_flat_results_and_what_is_no_result(artifact, tmp_path):
    folder = artifact("adapter")
    text = write_card(folder, results={"eval_loss": 1.23456, "rows": 1234567}).read_text()
    assert "| eval_loss | 1.235 |" in text and "| rows | 1234567 |" in text
    with pytest.raises(ValueError, match="comment is not a number"):
        write_card(folder, results={"eval_loss": 1.0, "comment": "fine"})
    with pytest.raises(FileNotFoundError, match="nowhere.json"):
        write_card(folder, results=tmp_path / "nowhere.json")
    (tmp_path / "damaged.json").write_text("{")
    with pytest.raises(ValueError, match="damaged.json: not readable"):
        write_card(folder, results=tmp_path / "damaged.json")


def test_words_of_a_person_come_from_card_yaml(artifact, tmp_path):
    folder = artifact("tokenizer")
    facts = {"title": "Ours", "license": "cc-by-4.0", "language": "de", "limits": "Only cats.", "tags": ["cats"]}
    (folder / "card.yaml").write_text(yaml.safe_dump(facts))
    text = write_card(folder).read_text()
    metadata = check_card(text, "tokenizer")
    assert metadata["license"] == "cc-by-4.0" and metadata["language"] == ["de"] and metadata["tags"][-1] == "cats"
    assert "# Ours\n" in text and "Only cats." in text and "no licence" not in text
    (folder / "card.yaml").write_text("licence: mit")
    with pytest.raises(ValueError, match="unknown keys: licence. Allowed are .*license"):
        write_card(folder)
    (folder / "card.yaml").write_text("license: my-own")
    with pytest.raises(ValueError, match="'my-own' is not known to the Hub"):
        write_card(folder)


@pytest.mark.parametrize(
    "parent, license, words",
    [
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "creativeml-openrail-m", "CreativeML Open RAIL-M"),
        ("stabilityai/stable-diffusion-2-1-unclip", "openrail++", r"Open RAIL\+\+-M"),
        ("Salesforce/blip2-itm-vit-g", "mit", "MIT"),
        ("AILab-CVC/seed-llama-8b-sft", "llama2", "Llama 2 Community License.*700 million"),
        ("lmsys/vicuna-7b-v1.1", "other", "no commercial use"),
        ("meta-llama/Llama-3.2-1B-Instruct", "llama3.2", "Built with Llama"),
        ("Qwen/Qwen3-0.6B", "apache-2.0", "Apache License 2.0"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0", "Apache License 2.0"),
        ("owner/unknown", None, "stated no licence"),
    ],
)
def test_licences_of_parents(artifact, parent, license, words):
    text = write_card(artifact("pipeline"), base_model=parent).read_text()
    assert check_card(text, "pipeline").get("license") == license
    assert re.search(words, text) and f"[{parent}]" in text


def test_a_pipeline_of_two_restricted_parents_names_both_licences(artifact):
    folder = artifact("pipeline")
    path = folder / "unet" / "config.json"  # where diffusers notes what a UNet was loaded from
    path.write_text(json.dumps({**json.loads(path.read_text()), "_name_or_path": "CompVis/stable-diffusion-v1-4"}))
    text = write_card(folder, base_model=["facebook/opt-2.7b"]).read_text()
    metadata = check_card(text, "pipeline")
    assert metadata["base_model"] == ["facebook/opt-2.7b", "CompVis/stable-diffusion-v1-4"]
    assert metadata["license_name"] == "opt-license-and-creativeml-openrail-m"
    assert "OPT-175B licence" in text and "CreativeML Open RAIL-M" in text


def test_front_matter_that_is_wrong():
    good = {"library_name": "transformers", "pipeline_tag": "any-to-any", "tags": ["a"]}
    assert wrong_keys(good, "model") == []
    for change, words in (
        ({"pipeline_tag": "see-and-draw"}, "not known"),
        ({"license": "other"}, "needs license_name"),
        ({"tags": [1]}, "list of texts"),
        ({"datasets": ["/home/me/pictures"]}, "id of a repository"),
        ({"base_model": ["a/b/c"]}, "id of a repository"),
        ({"language": ["English"]}, "ISO 639"),
        ({"library_name": None}, "no library_name"),
    ):
        assert any(words in wrong for wrong in wrong_keys({**good, **change}, "model")), change
    for text in ("# A card", "", "---\ntags: [a]\n", "--- \ntags: [a]\n---\n", "---\n\n---\n"):
        with pytest.raises(ValueError, match="no front matter"):
            check_card(text, "model")
    with pytest.raises(ValueError, match="not valid YAML"):
        check_card("---\ntags: [\n---\n", "model")
    assert [size_category(rows) for rows in (0, 999, 1000, 12242, 10**7)] == [
        "n<1K", "n<1K", "1K<n<10K", "10K<n<100K", "10M<n<100M",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("language: no", "line 5: no means"),
        ("language: [en, 'no']", None),
        ("license_name: 1e3", "quotes"),
        ("on: x", "front matter"),
        ("size_categories: 7", "size_categories: 7 is none of"),
        ("language: [" + ", ".join(["English"] * 5000) + "]", "ISO 639"),
        (bomb(), "aliases make more"),
    ],
)
def test_front_matter_means_the_same_to_all_readers(line, words):
    text = f"---\nlibrary_name: transformers\npipeline_tag: any-to-any\ntags: [a]\n{line}\n---\n# A card\n"
    if words is None:
        assert check_card(text, "model")["language"] == ["en", "no"]
        return
    with pytest.raises(ValueError, match=words) as caught:
        check_card(text, "model")
    assert len(str(caught.value)) < 1000  # however large the value


def test_kinds_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        kind_of(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="holds no artifact"):
        kind_of(tmp_path)
    (tmp_path / "manifest.json").write_text('{"tokenizer": {}, "source": {}}')  # of cached features, for instance
    with pytest.raises(ValueError, match="not of pre-tokenized data"):
        kind_of(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "opt"}')
    with pytest.raises(ValueError, match="'opt'"):
        kind_of(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ValueError, match="StableDiffusionPipeline"):
        kind_of(tmp_path)
    (tmp_path / "model_index.json").write_text('{"_class_name": ["pipeline_seed_image", "SeedImagePipeline"]}')
    assert kind_of(tmp_path) == "pipeline"


def test_the_command_line(artifact, tmp_path):
    folder, report = artifact("tokenizer"), tmp_path / "report.json"
    report.write_text(json.dumps(tiny_evaluation(folder)))
    status, text, _ = run("card", folder, "--title", "Ours", "--results", report, "--base-model", "Salesforce/blip2-x")
    assert status == 0 and text == f"{folder / 'README.md'}\n"
    card = RepoCard.load(folder / "README.md")
    assert card.data.base_model == ["Salesforce/blip2-x"] and "53.1" in card.text
    refused("card", tmp_path, words="holds no artifact")
    refused("card", folder, "--results", tmp_path / "nowhere.json", words="nowhere.json: no such file")


def test_an_adapters_base_is_never_run_and_no_folder_of_it_is_told(artifact, tmp_path, monkeypatch):
    monkeypatch.delenv(SWITCH)
    folder = artifact("adapter")
    config = json.loads((folder / "adapter_config.json").read_text())

    def with_base(base):
        (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": base}))

    with_base(f'x" if not __import__("os").system("touch {tmp_path}/ran") else "')
    with pytest.raises(ValueError, match="neither the id of a repository nor a folder"):
        write_card(folder)
    assert not (tmp_path / "ran").exists()
    base = tmp_path / "home" / "jane" / 'base"model'
    base.mkdir(parents=True)
    with_base(str(base))
    text = write_card(folder, run_snippet=False).read_text()
    assert "jane" not in text and 'base\\"model' in text


def test_what_other_hands_wrote_stays(artifact, tmp_path):
    folder = artifact("model")
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results" / "mine.yaml").write_text("- mine\n")
    write_card(folder, results=tiny_evaluation(folder), evaluation_dataset="owner/pictures")
    assert (folder / ".eval_results" / "test.yaml").exists()
    write_card(folder)
    assert [path.name for path in (folder / ".eval_results").iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("training: three days", "training is a mapping"),
        ("results: ../secret.json", "or below"),
        ("results: 3", "a file beside it or a mapping"),
        ("title: 1.10", "title is text; got 1.1"),
        ("title: 1e3", "title is text"),
        ("summary: [a, b]", "summary is text"),
        ("license: true", "license is text"),
        ("license: no", "line 1: no means"),
        ("language: no", "line 1: no means"),
        ("language: [en, no]", "line 1: no means"),
        ("language: [en, null]", "language is text or a list"),
        ("language: false", "language is text or a list"),
        ("tags: {a: b}", "tags is text or a list"),
        ("tags: [2026-01-02]", "2026-01-02 means"),
        ("training: {notes: [a]}", "notes is text"),
        ("title: a\ntitle: b", "line 2: 'title' stands twice"),
        ("title: [", "not valid YAML"),
        (bomb(), "aliases"),
    ],
)
def test_a_wrong_card_yaml_is_one_clear_line(artifact, text, words):
    folder = artifact("tokenizer")
    (folder / "card.yaml").write_text(text)
    (folder.parent / "secret.json").write_text('{"secret": 1}')
    with pytest.raises(ValueError, match=words):
        write_card(folder)
    assert not (folder / "README.md").exists()
