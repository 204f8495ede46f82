"""Bundles that try to run code, to read foreign files, or to exhaust the machine. A canary must stay untouched."""

import copy
import json
import os
import pickle
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from pipeline.bundle.manifest import identify, write_manifest
from pipeline.bundle.model import load_model
from pipeline.errors import BundleError

INFERENCE, METADATA, TRAIN = "configs/inference.json", "configs/metadata.json", "configs/train.json"
EVALUATE, TRACKING = "configs/evaluate.json", "configs/tracking_mlflow.json"
MULTI_GPU = "configs/multi_gpu_train.json"
WEIGHTS = "models/model.pt"


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary.txt"
    path.write_text("alive")
    return path


def edit(root, name, change):
    path = root / name
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def seal(root):
    """Write the manifest anew, as an attacker would."""
    write_manifest(root, "balls", "1.0.0")


def refused(root, canary, *words):
    with pytest.raises(BundleError) as caught:
        load_model(root)
    line = str(caught.value)
    assert "\n" not in line
    for word in words:
        assert word in line
    assert canary.read_text() == "alive"


CONFIG_ATTACKS = {
    "target os.remove as network": (
        lambda c, f: c.update(network_def={"_target_": "os.remove", "path": f}), "network_def::_target_"),
    "target os.system in preprocessing": (
        lambda c, f: c["preprocessing"]["transforms"].append({"_target_": "os.system", "command": f"rm {f}"}),
        "preprocessing::transforms::6::_target_"),
    "target subprocess in handlers": (
        lambda c, f: c["handlers"].append({"_target_": "subprocess.run", "args": ["rm", f]}), "handlers"),
    "target builtins.exec": (
        lambda c, f: c.update(inferer={"_target_": "builtins.exec", "source": f"open({f!r}, 'w')"}),
        "inferer::_target_"),
    "target that is an expression": (
        lambda c, f: c["inferer"].update(_target_=f"$lambda **k: open({f!r}, 'w')"), "inferer::_target_"),
    "target that is a list": (lambda c, f: c["inferer"].update(_target_=["os", "remove"]), "inferer::_target_"),
    "monai Lambdad": (
        lambda c, f: c["restoring"]["transforms"].append({"_target_": "Lambdad", "keys": "pred", "func": "$print"}),
        "restoring::transforms::2::_target_"),
    "monai bundle run within a bundle": (
        lambda c, f: c["deciding"]["transforms"].insert(0, {"_target_": "monai.bundle.run", "config_file": f}),
        "deciding::transforms::0::_target_"),
    "pickle loading transform": (
        lambda c, f: c["preprocessing"]["transforms"].insert(0, {"_target_": "torch.load", "f": f}),
        "preprocessing::transforms::0::_target_"),
    "expression in device": (lambda c, f: c.update(device=f"$__import__('os').remove({f!r})"), "device"),
    "expression in a new key": (lambda c, f: c.update(zebra=f"$open({f!r}, 'w')"), "zebra"),
    "import of a module": (lambda c, f: c["imports"].append("$import antigravity"), "imports"),
    "expression hidden in an argument": (
        lambda c, f: c["inferer"].update(roi_size=[f"$open({f!r}, 'w')", 8, 8]), "inferer::roi_size"),
    "expression with a trailing allowed part": (
        lambda c, f: c.update(network=f"$open({f!r}, 'w') or @network_def.to(@device)"), "network"),
    "expression in an initialize list": (lambda c, f: c.update(initialize=[f"$open({f!r}, 'w')"]), "initialize"),
    "expression in run": (lambda c, f: c.update(run=[f"$open({f!r}, 'w')", "$@evaluator.run()"]), "run"),
    "expression in finalize": (lambda c, f: c.update(finalize=[f"$open({f!r}, 'w')"]), "finalize"),
    "macro reading another file": (lambda c, f: c.update(inferer=f"%{f}"), "inferer"),
    "reader imported by name": (
        lambda c, f: c["preprocessing"]["transforms"][0].update(reader="os.system"),
        "preprocessing::transforms::0::reader"),
    "debug mode": (lambda c, f: c["inferer"].update(_mode_="debug"), "inferer::_mode_"),
    "requires with an expression": (
        lambda c, f: c["inferer"].update(_requires_=[f"$open({f!r}, 'w')"]), "inferer::_requires_"),
    "disabled by an expression": (
        lambda c, f: c["inferer"].update(_disabled_=f"$open({f!r}, 'w')"), "inferer::_disabled_"),
    "post_func in Invertd": (
        lambda c, f: c["restoring"]["transforms"][1].update(post_func=f"$lambda x: open({f!r}, 'w')"),
        "restoring::transforms::1::post_func"),
    "model file elsewhere": (
        lambda c, f: c["handlers"][0].update(load_path="/etc/passwd"), "handlers::0::load_path"),
    "output outside": (lambda c, f: c.update(output_dir="/"), "output_dir"),
    "label of mapping as expression": (
        lambda c, f: c["deciding"]["transforms"][1].update(orig_labels=f"$open({f!r}, 'w')"),
        "deciding::transforms::1::orig_labels"),
    "gigantic network": (
        lambda c, f: c["network_def"].update(filters=[10**9] * 4), "network_def::filters"),
    "network that does not fit the weights": (
        lambda c, f: c["network_def"].update(filters=[1024] * len(c["network_def"]["filters"])), "network_def"),
    "window of another size": (lambda c, f: c["inferer"].update(roi_size=[1000, 1000, 1000]), "inferer::roi_size"),
    "spacing of another size": (
        lambda c, f: c["preprocessing"]["transforms"][4].update(pixdim=[0.01, 0.01, 0.01]),
        "preprocessing::transforms::4::pixdim"),
    "overlap that never ends": (lambda c, f: c["inferer"].update(overlap=0.9999999), "inferer::overlap"),
    "members without a network": (
        lambda c, f: c.update(network_def="$torch.nn.Sequential(*@members)"), "members"),
    "member that is code": (
        lambda c, f: c.update(member_0=[{"_target_": "os.remove", "path": f}]), "member_0::0::_target_"),
    "missing key": (lambda c, f: c.pop("deciding"), "deciding"),
    "key with a separator": (lambda c, f: c.update({"a::b": 1}), "a::b"),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIG_ATTACKS)
def test_configuration_is_refused_by_its_key(name, copied, canary):
    attack, key = CONFIG_ATTACKS[name]
    edit(copied, INFERENCE, lambda config: attack(config, str(canary)))
    seal(copied)
    refused(copied, canary, "inference.json", key)


@pytest.mark.parametrize(
    ("attack", "key"),
    [
        (lambda c, f: c.update(initialize=[f"$open({f!r}, 'w')"]), "initialize::0"),
        (lambda c, f: c["train"]["handlers"].append({"_target_": "os.remove", "path": f}), "train::handlers::4"),
        (lambda c, f: c["train"]["inferer"].update(_mode_="debug"), "train::inferer::_mode_"),
        (lambda c, f: c.update(loss=f"%{f}::loss"), "loss"),
    ],
)
def test_a_training_configuration_with_code_is_refused_too(attack, key, copied, canary):
    edit(copied, TRAIN, lambda config: attack(config, str(canary)))
    seal(copied)
    refused(copied, canary, "train.json", key)


ARGUMENT_ATTACKS = {
    "a folder as artifact of a tracked training": (
        TRACKING, lambda c, f: c["configs"]["trainer"].update(artifacts=f), "configs::trainer::artifacts"),
    "tracking on a foreign server": (
        TRACKING, lambda c, f: c["configs"].update(tracking_uri="http://203.0.113.9"), "configs::tracking_uri"),
    "a foreign server for one handler": (
        TRACKING, lambda c, f: c["configs"]["evaluator"].update(tracking_uri="http://203.0.113.9"),
        "configs::evaluator::tracking_uri"),
    "a file as parameter of a tracked run": (
        TRACKING, lambda c, f: c["configs"]["run_settings"].update(secret=f"$open({f!r}).read()"),
        "configs::run_settings::secret"),
    "another handler of known kind in tracking": (
        TRACKING, lambda c, f: c["configs"].update(evaluator={"_target_": "CheckpointSaver", "save_dir": f}),
        "configs::evaluator::_target_"),
    "tracking put somewhere else": (
        TRACKING, lambda c, f: c["handlers_id"]["trainer"].update(handlers="initialize"),
        "handlers_id::trainer::handlers"),
    "configuration saved over a file": (
        TRACKING, lambda c, f: c["configs"].update(save_execute_config=f), "configs::save_execute_config"),
    "checkpoints written elsewhere": (
        TRAIN, lambda c, f: c["train"]["handlers"][3].update(save_dir=f), "train::handlers::3::save_dir"),
    "a checkpoint named after a file": (
        TRAIN, lambda c, f: c["train"]["handlers"][3].update(final_filename=f), "train::handlers::3::final_filename"),
    "training data taken from elsewhere": (TRAIN, lambda c, f: c.update(dataset_dir="/home"), "dataset_dir"),
    "a new argument of a known dataset": (
        TRAIN, lambda c, f: c["train"]["dataset"].update(hash_func="$print"), "train::dataset::hash_func"),
    "a new argument without code": (
        TRAIN, lambda c, f: c["train"]["dataset"].update(runtime_cache=True), "train::dataset::runtime_cache"),
    "a known handler once more": (
        TRAIN, lambda c, f: c["validate"]["handlers"].append(c["train"]["handlers"][3]), "validate::handlers::2"),
    "a known expression at another place": (
        TRAIN, lambda c, f: c.update(loss_name=c["run"][0]), "loss_name"),
    "a new key without code": (TRAIN, lambda c, f: c.update(zebra=1), "zebra"),
    "more processes than any machine has": (TRAIN, lambda c, f: c.update(num_workers=10**6), "num_workers"),
    "a number as text": (TRAIN, lambda c, f: c.update(learning_rate="0.1"), "learning_rate"),
    "patches of gigantic size": (TRAIN, lambda c, f: c.update(patch=[10**6] * 3), "patch"),
    "a handler that is switched on by code": (
        TRAIN, lambda c, f: c["train"]["handlers"][2].update(_disabled_=f"$open({f!r}, 'w')"),
        "train::handlers::2::_disabled_"),
    "metrics written elsewhere": (
        EVALUATE, lambda c, f: c["handlers"][2].update(save_dir=f), "handlers::2::save_dir"),
    "another file as weights to evaluate": (
        EVALUATE, lambda c, f: c["handlers"][0].update(load_path=f), "handlers::0::load_path"),
    "outputs of the evaluation outside": (EVALUATE, lambda c, f: c.update(output_dir="/"), "output_dir"),
    "a description beside a target": (
        EVALUATE, lambda c, f: c["evaluator"].update(_desc_="harmless"), "evaluator::_desc_"),
    "processes that wait for a foreign address": (
        MULTI_GPU, lambda c, f: c["initialize"].insert(0, "$torch.distributed.init_process_group(init_method='x')"),
        "initialize::0"),
    "an argument of the parallel network": (
        MULTI_GPU, lambda c, f: c["network"].update(process_group=f), "network::process_group"),
}  # fmt: skip


@pytest.mark.parametrize("name", ARGUMENT_ATTACKS)
def test_arguments_that_export_does_not_write_are_refused(name, copied, canary):
    file, attack, key = ARGUMENT_ATTACKS[name]
    edit(copied, file, lambda config: attack(config, str(canary)))
    seal(copied)
    refused(copied, canary, file, key)


def test_a_configuration_that_export_does_not_write_is_refused(copied, canary):
    (copied / "configs/loss_dice.json").write_text(json.dumps({"loss": {"_target_": "DiceLoss"}}))
    seal(copied)
    refused(copied, canary, "loss_dice.json")


@pytest.mark.parametrize("line", ['- path: "../../canary.txt"', '  url: "http://203.0.113.9/model.pt"'])
def test_large_files_that_would_be_fetched_are_refused(line, copied, canary):
    path = copied / "large_files.yml"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line if one.split(":")[0] == line.split(":")[0] else one for one in lines) + "\n")
    assert line in path.read_text()
    seal(copied)
    refused(copied, canary, "large_files.yml")


def test_trust_is_offered_for_code_and_never_for_data(copied, canary):
    edit(copied, TRAIN, lambda config: config.update(zebra=1))
    seal(copied)
    with pytest.raises(BundleError) as caught:
        load_model(copied)
    assert "--allow-code" not in str(caught.value)
    edit(copied, TRAIN, lambda config: config.pop("zebra"))
    (copied / "eval").mkdir()
    (copied / "eval/metrics.csv").write_text("case,dice")
    seal(copied)
    with pytest.raises(BundleError) as caught:
        load_model(copied)
    assert "metrics.csv: is not part of the bundle; move it out" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda m: m.update(description="$__import__('os').getpid()"), "description"),
        (lambda m: m.update(description="%configs/train.json"), "description"),
        (lambda m: m.update(task={"_target_": "os.getpid"}), "task::_target_"),
        (lambda m: m.update({"network_data_format::outputs": 1}), "network_data_format::outputs"),
        (lambda m: m.update(version="1.0.0\x1b[2J"), "version"),
        (lambda m: m.update(version=["1"]), "version"),
        (lambda m: m["segloss"]["classes"].update({"1": "ball\x00"}), "segloss::classes"),
        (lambda m: m["segloss"]["classes"].update({"1": "ball\nsmall ball"}), "segloss::classes"),
        (lambda m: m["segloss"]["classes"].update({"1": "\u202elluf"}), "segloss::classes"),
        (lambda m: m["segloss"]["segments"]["1"].update(label="a\x9b31m"), "segloss::segments"),
        (lambda m: m["segloss"]["segments"]["1"]["type"].update(meaning="a\tb"), "segloss::segments"),
        (lambda m: m["segloss"].update(channels=["T1\r"]), "segloss::channels"),
        (lambda m: m["segloss"]["series_rules"][0].update(name="a\x1b]0;b"), "segloss::series_rules"),
        (lambda m: m["segloss"].update(series_rules=[{"Modality": "MR"}] * 65), "segloss::series_rules"),
        (lambda m: m["segloss"].pop("recipe"), "segloss::recipe"),
        (lambda m: m["segloss"]["recipe"].update(features=[10**9] * 3), "segloss::recipe::features"),
        (lambda m: m["segloss"]["recipe"].update(features=[16] * 200), "segloss::recipe::features"),
        (lambda m: m["segloss"]["recipe"].update(stem=[0, 0, 0]), "segloss::recipe::stem"),
        (lambda m: m["segloss"]["recipe"].update(keep_largest=[200]), "segloss"),
        (lambda m: m["segloss"]["recipe"].update(loss="os.system"), "segloss::recipe::loss"),
        (lambda m: m["segloss"]["recipe"].update(loss_arguments={"reduction": 1}), "segloss::recipe::loss_arguments"),
        (lambda m: m["segloss"]["recipe"].update(loss_arguments={"alpha": "$1"}), "segloss::recipe::loss_arguments"),
        (lambda m: m["segloss"]["recipe"].update(patch=[1 << 20] * 3), "segloss::recipe::patch"),
        (lambda m: m["segloss"]["recipe"].update(normalisation=["pickle"]), "segloss::recipe::normalisation"),
    ],
)  # fmt: skip
def test_metadata_with_code_or_hidden_characters_or_absurd_sizes_is_refused(change, key, copied, canary):
    edit(copied, METADATA, change)
    seal(copied)
    with pytest.raises(BundleError) as caught:
        load_model(copied)
    assert "metadata.json" in str(caught.value)
    assert key in str(caught.value)
    assert str(caught.value).isprintable()


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.remove, (self.path,)


def test_pickled_weights_that_run_code_are_refused(copied, canary):
    torch.save({"weight": Bomb(str(canary))}, copied / "models/model.pt")
    seal(copied)
    refused(copied, canary, "model.pt", "more than tensors")


def test_a_bare_pickle_is_refused(copied, canary):
    (copied / "models/model.pt").write_bytes(pickle.dumps(Bomb(str(canary))))
    (copied / "models/model.safetensors").unlink(missing_ok=True)
    seal(copied)
    refused(copied, canary, "model.pt")


def test_compressed_weights_are_refused(copied, canary):
    path = copied / "models/model.pt"
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    seal(copied)
    refused(copied, canary, "model.pt", "compressed")


def replace_weight(root, make):
    """Replace the first tensor of ``model.pt`` by the result of `make`, and return its name."""
    weights = torch.load(root / WEIGHTS, weights_only=True)
    first = next(iter(weights))
    torch.save(weights | {first: make(weights[first])}, root / WEIGHTS)
    (root / "models/model.safetensors").unlink(missing_ok=True)
    seal(root)
    return first


HOSTILE_TENSORS = {
    "17 TB without memory": lambda t: torch.zeros(1).as_strided((2**42,), (0,)),
    "the right shape without memory": lambda t: torch.zeros(1).expand(t.shape),
    "17 TB of no device": lambda t: torch.empty(2**42, device="meta"),
    "17 TB with few elements": lambda t: torch.sparse_coo_tensor(torch.zeros(1, 1), torch.ones(1), (2**42,)),
    "another shape": lambda t: torch.zeros(*t.shape, 2),
    "another type": lambda t: t.double(),
    "integers": lambda t: t.to(torch.int32),
    "a list": lambda t: [t],
    "a parameter": lambda t: torch.nn.Parameter(t),
}


@pytest.mark.parametrize("name", HOSTILE_TENSORS)
def test_a_foreign_tensor_is_refused_before_it_is_used(name, copied, canary):
    replace_weight(copied, HOSTILE_TENSORS[name])
    refused(copied, canary, "model.pt")


def test_a_tensor_that_the_network_does_not_have_is_refused(copied, canary):
    weights = torch.load(copied / WEIGHTS, weights_only=True)
    torch.save(weights | {"more": torch.zeros(3)}, copied / WEIGHTS)
    (copied / "models/model.safetensors").unlink(missing_ok=True)
    seal(copied)
    refused(copied, canary, "model.pt", "more")


def test_a_pickle_that_claims_all_memory_is_refused(copied, canary):
    path = copied / WEIGHTS
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    bomb = b"\x80\x02cbuiltins\nbytearray\n" + pickle.dumps(2**45, 2)[2:-1] + b"\x85R."
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, bomb if name.endswith("/data.pkl") else data)
    (copied / "models/model.safetensors").unlink(missing_ok=True)
    seal(copied)
    refused(copied, canary, "model.pt", "more than tensors")


def test_malformed_safetensors_are_refused(copied, canary):
    (copied / "models/model.safetensors").write_bytes(b"\xff" * 64)
    seal(copied)
    refused(copied, canary, "model.safetensors")


def test_weights_that_are_not_finite_are_refused(copied, canary):
    weights = torch.load(copied / WEIGHTS, weights_only=True)
    next(iter(weights.values())).fill_(float("nan"))
    save_file(weights, copied / "models/model.safetensors")
    torch.save(weights, copied / "models/model.pt")
    seal(copied)
    refused(copied, canary, "not finite")


def test_two_weight_files_that_differ_are_refused(copied, canary):
    weights = torch.load(copied / WEIGHTS, weights_only=True)
    next(iter(weights.values())).add_(1)
    save_file(weights, copied / "models/model.safetensors")
    seal(copied)
    refused(copied, canary, "model.pt", "other weights")


def test_missing_manifest_is_refused(copied, canary):
    (copied / "manifest.json").unlink()
    refused(copied, canary, "manifest.json", "missing")


@pytest.mark.parametrize("name", [INFERENCE, WEIGHTS, "docs/README.md", "test_vector/expected.json"])
def test_a_changed_file_does_not_match_its_hash(name, copied, canary):
    path = copied / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    refused(copied, canary, path.name, "hash")


def test_a_file_of_another_length_is_refused(copied, canary):
    with (copied / "models/model.pt").open("ab") as stream:
        stream.write(b"more")
    refused(copied, canary, "model.pt", "bytes")


def test_a_missing_file_is_refused(copied, canary):
    (copied / TRAIN).unlink()
    refused(copied, canary, "train.json", "missing")


def test_a_file_outside_the_manifest_is_refused(copied, canary):
    (copied / "configs/more.json").write_text("{}")
    refused(copied, canary, "more.json", "not in the manifest")


@pytest.mark.parametrize(
    "name", ["scripts/__init__.py", "configs/logging.conf", "configs/inference.yaml", "models/model.ts", "setup.py"]
)
def test_code_and_foreign_files_are_refused(name, copied, canary):
    path = copied / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"open({str(canary)!r}, 'w')")
    seal(copied)
    refused(copied, canary, name)


@pytest.mark.parametrize("path", ["../canary.txt", "/etc/passwd", "configs/../../canary.txt", "configs//x", "a\\b", ""])
def test_paths_out_of_the_bundle_are_refused(path, copied, canary):
    edit(copied, "manifest.json", lambda m: m["files"].update({path: {"sha256": "0" * 64, "bytes": 1}}))
    refused(copied, canary, "manifest.json", "not a path inside")


@pytest.mark.parametrize("target", ["/etc/passwd", "../../canary.txt", "README.md"])
def test_links_are_refused(target, copied, canary):
    (copied / "docs/link.md").symlink_to(target)
    refused(copied, canary, "link.md", "link")


def test_a_linked_folder_is_refused(copied, canary, tmp_path):
    (copied / "more").symlink_to(tmp_path)
    refused(copied, canary, "more", "link")


def test_a_pipe_is_refused(copied, canary):
    os.mkfifo(copied / "docs/pipe.md")
    refused(copied, canary, "pipe.md")


def test_an_oversized_configuration_is_refused(copied, canary):
    (copied / INFERENCE).write_text(" " * (5 << 20) + (copied / INFERENCE).read_text())
    seal(copied)
    refused(copied, canary, "inference.json", "limit")


def test_deeply_nested_json_is_refused(copied, canary):
    (copied / INFERENCE).write_text("[" * 100_000 + "]" * 100_000)
    seal(copied)
    refused(copied, canary, "inference.json")


def test_a_key_that_occurs_twice_is_refused(copied, canary):
    text = (copied / INFERENCE).read_text()
    (copied / INFERENCE).write_text(text.replace('"imports"', '"bundle_root": "/etc", "imports"', 1))
    seal(copied)
    refused(copied, canary, "inference.json", "bundle_root", "twice")


@pytest.mark.parametrize("manifest", [b"", b"[]", b"{}", b'{"schema": 1, "version": "1", "files": {"a": {}}}', b"\xff"])
def test_a_malformed_manifest_is_refused(manifest, copied, canary):
    (copied / "manifest.json").write_bytes(manifest)
    refused(copied, canary, "manifest.json")


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (lambda s: s.update(patch=[100_000] * 3), "segloss"),
        (lambda s: s.update(name="../../etc"), "segloss::name"),
        (lambda s: s.update(surprise=1), "segloss::surprise"),
        (lambda s: s.update(classes={"0": "background"}), "segloss::classes"),
        (lambda s: s.update(spacing_mm=[0, 0, 0]), "segloss"),
    ],
)
def test_metadata_out_of_range_is_refused(change, key, copied, canary):
    edit(copied, METADATA, lambda metadata: change(metadata["segloss"]))
    seal(copied)
    refused(copied, canary, "metadata.json", key)


def test_code_runs_for_its_own_hash_only(copied, canary):
    edit(copied, INFERENCE, lambda c: c["deciding"]["transforms"].append(
        {"_target_": "Lambdad", "keys": "pred", "func": f"$lambda x: [open({str(canary)!r}, 'w').write('dead'), x][1]"}
    ))  # fmt: skip
    seal(copied)
    before = identify(copied)
    with pytest.raises(BundleError, match=before):
        load_model(copied)
    with pytest.raises(BundleError, match="not the bundle that --allow-code names"):
        load_model(copied, allow_code="0" * 64)
    assert canary.read_text() == "alive"
    model = load_model(copied, allow_code=before)
    prepared = model.prepare([copied / "test_vector/input.nii.gz"])
    model.finish(prepared, model.infer(prepared))
    assert canary.read_text() == "dead"


def test_allowed_code_does_not_excuse_a_changed_file(copied, canary):
    pinned = identify(copied)
    (copied / "models/model.pt").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.pt"):
        load_model(copied, allow_code=pinned)


def test_the_untouched_bundle_loads(copied, canary):
    assert load_model(copied).sha256 == identify(copied)
    assert copy.deepcopy(load_model(copied).classes) == {1: "ball", 3: "small ball"}
