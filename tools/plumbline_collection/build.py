"""Puts the collection's files together. The same project makes the same files."""

from __future__ import annotations

import shutil

from . import metadata, python, tasks, templates
from .edits import Unsafe
from .project import NAME, NAMESPACE, Project

# Where the lab's inventory is: beside the project, and for a collection where the command runs.
BESIDE, HERE = "(playbook_dir | dirname)", "lookup('ansible.builtin.env', 'PWD')"
# What a lab writes into the inventory.
WRITTEN = ("inventory/lab/hosts.yml", "inventory/lab_gpu/hosts.yml")
COPIED = ("LICENSE", "CHANGELOG.md", "requirements.yml")


def build(root, out):
    """Write the collection of the project ``root`` to ``out``/ansible_collections/plumbline/cluster and return that folder.

    The folder is made anew. Raises :class:`Unsafe` where no rule says what becomes of something.
    """
    project, folder = Project(root), out / "ansible_collections" / NAMESPACE / NAME
    if project.unknown_kinds():
        raise Unsafe("plugins/%s: no rule for this kind of plugin" % project.unknown_kinds()[0])
    if folder.exists():
        shutil.rmtree(folder)
    files = {**_code(project), **_yaml(project), **_plain(project), **_metadata(project)}
    for name, content in sorted(files.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(_mode(root, name))
    return folder


def image_needs(project):
    """Return ``{name: text}`` of what execution-environment.yml reads beside the artefact."""
    return {"requirements-image.txt": metadata.requirements_image(project), "constraints.txt": metadata.constraints(project)}


def _mode(root, name):
    source = root / name
    return 0o755 if source.is_file() and source.stat().st_mode & 0o100 else 0o644


def _files(folder):
    """Return the files of a folder, without what Python and the linters leave behind: byte code, and caches with a dot in front."""
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".pyc"]
    return [path for path in found if not any(part == "__pycache__" or part.startswith(".") for part in path.relative_to(folder).parts)]


def _code(project):
    """Modules and plugins, by their new paths."""
    found = {}
    for path in _files(project.root / "library"):
        found["plugins/modules/%s" % path.name] = path
    for path in _files(project.root / "plugins"):
        found[str(path.relative_to(project.root))] = path
    texts = {name: _text(path.read_text(encoding="utf-8"), project, name) for name, path in found.items()}
    callback = texts["plugins/callback/plumbline.py"]
    actions = ["plugins/action/%s.py" % name for name in project.actions if name not in project.modules]
    documented = {name.replace("/action/", "/modules/"): python.documentation(texts[name], name) for name in actions}
    return {**texts, **documented, "playbooks/callback_plugins/plumbline.py": metadata.adjacent_callback(callback)}


def _text(text, project, name):
    """A module, a plugin, or what documents a filter."""
    return python.rewritten(text, project, name) if name.endswith(".py") else templates.rewritten(text, project, name)


def _yaml(project):
    """Roles, playbooks and inventories, by their new paths."""
    root, found = project.root, {}
    paths = [path for path in _files(root / "roles") if "files" not in path.relative_to(root / "roles").parts[1:2]]
    paths += [path for path in (*sorted((root / "playbooks").glob("*.yml")), *_files(root / "playbooks" / "tasks"))]
    paths += _files(root / "inventory")
    for path in (root / "site.yml", *paths):
        name = str(path.relative_to(root))
        if name not in WRITTEN:
            found["playbooks/site.yml" if name == "site.yml" else name] = _changed(path.read_text(encoding="utf-8"), project, name)
    return found


def _changed(text, project, name):
    if name.endswith(".yml"):
        return tasks.rewritten(text.replace(BESIDE, HERE), project, name)
    return templates.rewritten(text, project, name) if name.endswith(".j2") else text


def _plain(project):
    """What is as it is: the roles' files, the pages, the schemas."""
    root = project.root
    paths = [path for path in _files(root / "roles") if "files" in path.relative_to(root / "roles").parts[1:2]]
    return {str(path.relative_to(root)): path.read_bytes() for path in (*paths, *_files(root / "docs"), *(root / name for name in COPIED))}


def _metadata(project):
    """What only a collection has."""
    page = (project.root / "docs" / "collection.md").read_text(encoding="utf-8")
    return {
        "README.md": metadata.readme(page),
        "galaxy.yml": metadata.galaxy(project),
        "meta/runtime.yml": metadata.runtime(project),
        "meta/execution-environment.yml": metadata.execution_environment(),
        "tests/sanity/ignore-2.19.txt": metadata.sanity_ignored(project),
        "bindep.txt": metadata.bindep(),
        "requirements.txt": metadata.requirements(project),
        "requirements-azure.txt": metadata.requirements_azure(project),
    }
