"""``python -m plumbline_collection FOLDER``: build the collection and its artefact there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from . import changelog
from .build import build, image_needs
from .edits import Unsafe
from .project import NAME, NAMESPACE, Project

ROOT = Path(__file__).resolve().parents[2]


def main(out):
    """Build, and say where the artefact is."""
    try:
        project, folder = Project(ROOT), build(ROOT, out)
        changelog.write(folder, (ROOT / changelog.SOURCE).read_text(encoding="utf-8"), project.version, changelog.date_of(ROOT))
    except Unsafe as error:
        sys.exit("the collection cannot be built: %s" % error)
    for name, text in image_needs(project).items():
        (out / name).write_text(text, encoding="utf-8")
    command = ["ansible-galaxy", "collection", "build", str(folder), "--output-path", str(out), "--force"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    artefact = out / ("%s-%s-%s.tar.gz" % (NAMESPACE, NAME, project.version))
    # By a name without a version, for execution-environment.yml.
    (out / "collection.tar.gz").write_bytes(artefact.read_bytes())
    print("ansible-galaxy collection install %s" % artefact)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/collection").resolve())
