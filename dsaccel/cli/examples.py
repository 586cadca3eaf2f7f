"""Examples of each command, shown at the end of its help."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "fit": (
        "dsaccel fit --data photos --memory 4GiB --budget 2h",
        "dsaccel fit --data photos --family vgg8b --name small",
    ),
    "new": (
        "dsaccel new mine --data photos --budget 2h",
        "dsaccel new small --data photos --family vgg8b --memory 4GiB",
    ),
    "search": (
        "dsaccel search",
        "dsaccel search mine --dry-run",
        "dsaccel search --data photos",
        "dsaccel search mine --n-trials 64 --set training.lr_decay=0.5",
    ),
    "confirm": ("dsaccel confirm mine", "dsaccel confirm mine --seeds 10 --top 1"),
    "train": (
        "dsaccel train studies/mine/best.toml -o model.safetensors",
        "dsaccel train 1-1-2-4 --study mine",
        "dsaccel train studies/mine/best.toml --mode global",
    ),
    "evaluate": (
        "dsaccel evaluate model.safetensors",
        "dsaccel evaluate best.toml --split val --per-class --confusion",
        "dsaccel evaluate model.safetensors --predictions predictions.csv",
    ),
    "describe": (
        "dsaccel describe 1-1-2-4 --family resnet18",
        "dsaccel describe --space resnet18 --image-size 64",
    ),
    "export": (
        "dsaccel export mine -o best.toml",
        "dsaccel export mine --hierarchy 1-1-2-4",
        "dsaccel export mine --onnx model.onnx --torch model.pt2",
    ),
    "report": ("dsaccel report mine", "dsaccel report mine --format csv"),
    "dashboard": ("dsaccel dashboard mine", "dsaccel dashboard mine --port 0"),
    "compare": ("dsaccel compare mine other", "dsaccel compare fine.csv.gz coarse.csv.gz"),
    "curves": ("dsaccel curves mine",),
    "pareto": ("dsaccel pareto mine --against flops -o front.html",),
    "calibrate": ("dsaccel calibrate mine --seeds 3",),
    "variance": ("dsaccel variance landscape.csv.gz",),
    "landscape": ("dsaccel landscape mine -o landscape.csv.gz",),
    "replay": ("dsaccel replay landscape.csv.gz --strategy tpe,random",),
    "clean": ("dsaccel clean mine",),
    "list": ("dsaccel list", "dsaccel list --json"),
    "predict": ("dsaccel predict model.safetensors cat.jpg dog.png",),
    "reproduce": ("dsaccel reproduce table5", "dsaccel reproduce separability --scale tiny"),
}


def epilog(command: str) -> str:
    """Lines that the help does not wrap."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in EXAMPLES[command])
