"""`whichloss nnunet trainers` prints what to type, and refuses what would fail in a training."""

import json
from pathlib import Path

import pytest

from pipeline.cli.app import main


def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["whichloss", "nnunet", "trainers", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    said = capsys.readouterr()
    return int(stopped.value.code or 0), said.out, said.err


def test_the_commands_are_printed_line_by_line(tmp_path: Path, monkeypatch, capsys) -> None:
    out = tmp_path / "my trainers"
    code, text, _ = run(monkeypatch, capsys, "--losses", "ce,dice_ce", "--out", out, "--seeds", 2)
    assert code == 0
    assert text.splitlines() == [
        f"export nnUNet_extTrainer='{out}'",
        "nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainer_ce",
        "nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainer_ce_seed1",
        "nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainer_dice_ce",
        "nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainer_dice_ce_seed1",
    ]


def test_json_holds_the_same(tmp_path: Path, monkeypatch, capsys) -> None:
    code, text, _ = run(monkeypatch, capsys, "--losses", "topk_ce{k=0.2}", "--out", tmp_path, "--epochs", 50, "--json")
    assert code == 0
    assert json.loads(text) == {
        "folder": str(tmp_path),
        "export": f"export nnUNet_extTrainer={tmp_path}",
        "trainers": [
            {
                "loss": "topk_ce-k=0.2",
                "spec": "topk_ce{k=0.2}",
                "seed": 0,
                "trainer": "nnUNetTrainer_topk_ce_k0p2",
                "file": str(tmp_path / "nnUNetTrainer_topk_ce_k0p2.py"),
                "command": "nnUNetv2_train DATASET CONFIGURATION FOLD -tr nnUNetTrainer_topk_ce_k0p2",
            }
        ],
    }
    assert "    epochs = 50\n" in (tmp_path / "nnUNetTrainer_topk_ce_k0p2.py").read_text()


def test_weights_fix_the_number_of_classes(tmp_path: Path, monkeypatch, capsys) -> None:
    code, *_ = run(monkeypatch, capsys, "--losses", "weighted_ce{weights=[1,2,3,4,5,6]}", "--out", tmp_path)
    assert code == 0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--losses", "dise"), "--losses dise: is an unknown loss"),
        (("--losses", "tversky{alfa=1}"), "--losses tversky{alfa=1}: could not be built"),
        (("--losses", "nowhere.module:Mine"), "--losses nowhere.module:Mine: could not be imported"),
        (("--losses", "ce", "--seeds", "0"), "--seeds 0: must be at least 1"),
        (("--losses", "ce", "--epochs", "0"), "--epochs 0: must be at least 1"),
    ],
)
def test_bad_requests_are_one_line_and_write_nothing(
    tmp_path: Path, monkeypatch, capsys, options: tuple[str, ...], problem: str
) -> None:
    code, text, error = run(monkeypatch, capsys, *options, "--out", tmp_path / "out")
    assert (code, text) == (2, "")
    assert len(error.splitlines()) == 1
    assert problem in error
    assert not (tmp_path / "out").exists()
