"""What SECURITY.md promises and no other test shows: what is loaded runs no code and writes nowhere."""

import ast
import io
import json
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from command_line import run
from seed_hf import SeedImagePipeline, SeedProcessor, SeedTokenizer
from seed_hf.conversion.checkpoint_files import ConversionError
from seed_hf.data.sources.filters import RowFilters
from seed_hf.data.sources.row_checks import read_image
from seed_hf.data.sources.source import open_source
from seed_hf.evaluation.image_encoders import InceptionEncoder
from seed_hf.images import SeedImageError
from tiny import tiny_text_tokenizer, tiny_tokenizer
from tiny_diffusion import tiny_model_and_processor, tiny_pipeline
from tiny_language import tiny_processor
from tiny_sources import noise, rows, write_parquet


ROOT = Path(__file__).parents[1]
SHIPPED = [path for folder in ("seed_hf", "modeling", "pipelines") for path in (ROOT / folder).rglob("*.py")]
CODE = "open('ran.txt', 'w').close()\n"


class RunsCode:
    def __reduce__(self):
        return os.system, ("touch ran.txt",)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())  # nobody is there to answer "do you trust this code?"
    yield
    assert not Path("ran.txt").exists(), "Foreign code was run."


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}, node


def test_the_package_calls_nothing_that_runs_foreign_code():
    assert len(SHIPPED) > 60
    for path in SHIPPED:
        for name, given, node in calls(path):
            where = f"{path.relative_to(ROOT)}:{node.lineno}: {name}"
            assert given.get("trust_remote_code") != "True" and given.get("shell") != "True", where
            if name.startswith("Auto") and name.endswith(".from_pretrained"):  # else transformers asks
                assert given.get("trust_remote_code") == "False", where
            assert name not in ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.load"), where
            if name == "torch.load":
                assert given.get("weights_only") == "True", where
            if name.endswith(".extractall"):
                assert given.get("filter") == "'data'", where


def test_all_yaml_is_read_by_the_reader_with_limits():
    for path in SHIPPED:
        readers = [name for name, _, _ in calls(path) if name.startswith("yaml.") and "dump" not in name]
        assert not readers or path.name == "yaml_text.py", path


def test_pickled_weights_run_no_code():
    tiny_tokenizer().save_pretrained("tokenizer")
    Path("tokenizer/model.safetensors").unlink()
    torch.save({"weight": RunsCode()}, "tokenizer/pytorch_model.bin")
    with pytest.raises(Exception, match="(?i)weights_only|unpickl|unsupported"):
        SeedTokenizer.from_pretrained("tokenizer")


def test_pickled_weights_of_fid_run_no_code():
    """torch-fidelity opens them with `weights_only=False`."""
    torch.save({"weight": RunsCode()}, "inception.pth")
    with pytest.raises(ConversionError, match="pickled Python code"):
        InceptionEncoder("inception.pth")


def test_what_is_saved_is_safetensors_and_text():
    model, processor = tiny_model_and_processor()
    tiny_pipeline(model, processor=processor).save_pretrained("pipeline")
    model.save_pretrained("model")
    with pytest.raises(ValueError, match="safetensors alone"):
        tiny_pipeline(model, processor=processor).save_pretrained("pickles", safe_serialization=False)
    suffixes = {path.suffix for path in Path().rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".jinja", ".py", ".md"} and ".safetensors" in suffixes


def test_code_beside_a_text_encoder_is_not_run():
    """`AutoModel` opens whatever the folder says it is; a class of its own would be code of its own."""
    Path("encoder").mkdir()
    Path("encoder/modeling_x.py").write_text(CODE + "class X:\n    pass\n")
    Path("encoder/configuration_x.py").write_text(CODE + "class XConfig:\n    pass\n")
    auto_map = {"AutoConfig": "configuration_x.XConfig", "AutoModel": "modeling_x.X"}
    Path("encoder/config.json").write_text(json.dumps({"model_type": "x", "auto_map": auto_map}))
    tiny_text_tokenizer().save_pretrained("words")
    write_parquet(Path("a.parquet"), rows(2))
    text = ("--text-encoder", "encoder", "--text-tokenizer", "words")
    status, _, error = run("cache-features", "a.parquet", "--device", "cpu", *text, "--out", "out")
    assert status == 2 and "custom code" in error


def test_code_beside_a_processor_is_not_run_and_nobody_is_asked(monkeypatch):
    monkeypatch.setattr("builtins.input", lambda question="": "y")
    tiny_processor().save_pretrained("processor")
    settings = json.loads(Path("processor/tokenizer_config.json").read_text())
    settings |= {"tokenizer_class": "X", "auto_map": {"AutoTokenizer": ["x.X", "x.X"]}}
    Path("processor/tokenizer_config.json").write_text(json.dumps(settings))
    Path("processor/x.py").write_text(CODE + "from transformers import PreTrainedTokenizerFast as X\n")
    with pytest.raises(ValueError, match="custom code"):
        SeedProcessor.from_pretrained("processor")


def test_code_in_a_pipeline_folder_is_not_run():
    pipe = tiny_pipeline()
    pipe.save_pretrained("pipeline")
    index = json.loads(Path("pipeline/model_index.json").read_text())
    index["unet"] = ["foreign", "Net"]
    Path("pipeline/model_index.json").write_text(json.dumps(index))
    Path("pipeline/unet/foreign.py").write_text(CODE + "class Net:\n    pass\n")
    with pytest.raises(ValueError, match="trust_remote_code"):
        SeedImagePipeline.from_pretrained("pipeline")


def test_code_in_a_chat_template_is_not_run():
    _, processor = tiny_model_and_processor()
    processor.save_pretrained("processor")
    attack = "{{ ''.__class__.__mro__[1].__subclasses__() }}"
    Path("processor/chat_template.jinja").write_text(attack)
    chat = [{"role": "user", "content": [{"type": "text", "text": "a"}]}]
    with pytest.raises(Exception, match="unsafe|access to attribute"):
        SeedProcessor.from_pretrained("processor").apply_chat_template(chat)


def test_a_tar_writes_nothing_to_disk():
    def add(tar, name, data=b"", **settings):
        member = tarfile.TarInfo(name)
        member.size = len(data)
        for key, value in settings.items():
            setattr(member, key, value)
        tar.addfile(member, io.BytesIO(data))

    Path("inside").mkdir()
    os.chdir("inside")
    with tarfile.open("a.tar", "w") as tar:
        for key in ("../out", "/tmp/seed_hf_must_not_be_written", "fine"):
            add(tar, f"{key}.png", noise(0))
            add(tar, f"{key}.txt", b"a caption")
        add(tar, "link.png", type=tarfile.SYMTYPE, linkname="/etc/hostname")
    found = list(open_source("a.tar").rows(0))
    assert [row.image for row in found] == [noise(0)] * 3 + [None]  # names are names and not places
    assert found[3].rejection.reason == "a symbolic link, which is not read (png)"
    assert sorted(path.name for path in Path("..").rglob("*")) == ["a.tar", "inside"]
    assert not Path("/tmp/seed_hf_must_not_be_written.png").exists()


@pytest.mark.parametrize("name", ["http://localhost:1/a.png", "data:image/png;base64,AA", "file:///etc/hostname"])
def test_addresses_in_data_are_not_fetched(name):
    table = pa.table({"image": [name], "caption": ["a"]})
    pq.write_table(table, "a.parquet")
    (row,) = open_source("a.parquet").rows(0)
    with pytest.raises(SeedImageError, match="URLs are not fetched"):
        read_image(row.image, RowFilters())


def test_the_pipeline_opens_no_paths_and_no_addresses():
    for text in ("http://localhost:1/a.png", "/etc/hostname"):
        with pytest.raises(TypeError, match="PIL.Image.Image"):
            tiny_pipeline()(image=text)


def test_evaluation_opens_pictures_as_the_command_line_does(tmp_path):
    from seed_hf.evaluation.rows import EvaluationData, EvaluationRow
    from seed_hf.evaluation.running import run_task
    from seed_hf.evaluation.tasks.codebook import Codebook
    from tiny_sources import bomb

    model, processor = tiny_model_and_processor()
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "PPM")
    for data in (file.getvalue(), bomb()):
        rows = EvaluationData("rows", [EvaluationRow("a", data)])
        with pytest.raises(ValueError, match=r"Row 0 \(a\): a: "):
            run_task(Codebook(model.visual_tokenizer, processor.image_processor), rows, tmp_path / "a.json")
