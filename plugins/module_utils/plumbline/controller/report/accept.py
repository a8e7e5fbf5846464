"""Says whether a fact fits its schema. Standard library only.

jsonschema takes milliseconds for each fact, which is many seconds for a thousand nodes. Here a schema becomes functions once. They say
yes and no as jsonschema does, and not why: the words for a no are jsonschema's, where the controller has it. A schema with a keyword
that is not known here accepts nothing, so that nothing passes that jsonschema would refuse.
"""

from __future__ import annotations

import re

# What says nothing of a value. jsonschema checks "format" only where it is given a checker, and here it is given none.
SILENT = {"$schema", "$id", "$defs", "title", "description", "format", "then", "else"}


def _integer(value):
    return isinstance(value, int) and not isinstance(value, bool) or isinstance(value, float) and value.is_integer()


def _number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": _integer,
    "number": _number,
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}


class _Unknown(Exception):
    """A schema has something that no rule is there for."""


def accepts(schema, find):
    """Return a function that says whether it accepts a value; ``find`` returns the schema that a ``$ref`` names, or None."""
    try:
        return _Compiler(find).compiled(schema, schema)
    except _Unknown:
        return lambda _value: False


def _same(one, other):
    """Return whether two values are equal in JSON, where true is no 1 and 1 is 1.0."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    return one == other


class _Compiler:
    """Turns schemas into functions, each of them once, so that one may name itself."""

    def __init__(self, find):
        self._find = find
        self._made = {}

    def compiled(self, schema, root):
        """Return the function of ``schema``, a part of the document ``root``."""
        if isinstance(schema, bool):
            return lambda _value: schema
        key = id(schema)
        if key not in self._made:
            tests = []
            self._made[key] = lambda value: all(test(value) for test in tests)
            tests += [self._keyword(name, given, schema, root) for name, given in schema.items() if name not in SILENT]
        return self._made[key]

    def _keyword(self, name, given, schema, root):
        maker = getattr(self, "_" + name.lstrip("$"), None)
        if not maker:
            raise _Unknown(name)
        return maker(given, schema, root)

    def _tests(self, schemas, root):
        return [self.compiled(item, root) for item in schemas]

    def _ref(self, given, _schema, root):
        document, _hash, path = given.partition("#")
        target = root = self._find(document) if document else root
        for part in path.split("/")[1:]:
            target = target.get(part) if isinstance(target, dict) else None
        if not isinstance(target, (dict, bool)):
            raise _Unknown(given)
        return self.compiled(target, root)

    def _type(self, given, _schema, _root):
        wanted = [TYPES[name] for name in ([given] if isinstance(given, str) else given)]
        return wanted[0] if len(wanted) == 1 else lambda value: any(test(value) for test in wanted)

    def _enum(self, given, _schema, _root):
        return lambda value: any(_same(value, item) for item in given)

    def _const(self, given, schema, root):
        return self._enum([given], schema, root)

    def _pattern(self, given, _schema, _root):
        pattern = re.compile(given)
        return lambda value: not isinstance(value, str) or pattern.search(value) is not None

    def _minLength(self, given, _schema, _root):
        return lambda value: not isinstance(value, str) or len(value) >= given

    def _minimum(self, given, _schema, _root):
        return lambda value: not _number(value) or value >= given

    def _maximum(self, given, _schema, _root):
        return lambda value: not _number(value) or value <= given

    def _exclusiveMinimum(self, given, _schema, _root):
        return lambda value: not _number(value) or value > given

    def _minItems(self, given, _schema, _root):
        return lambda value: not isinstance(value, list) or len(value) >= given

    def _maxItems(self, given, _schema, _root):
        return lambda value: not isinstance(value, list) or len(value) <= given

    def _minProperties(self, given, _schema, _root):
        return lambda value: not isinstance(value, dict) or len(value) >= given

    def _required(self, given, _schema, _root):
        return lambda value: not isinstance(value, dict) or all(name in value for name in given)

    def _dependentRequired(self, given, _schema, _root):
        return lambda value: (
            not isinstance(value, dict) or all(other in value for name, others in given.items() if name in value for other in others)
        )

    def _items(self, given, _schema, root):
        test = self.compiled(given, root)
        return lambda value: not isinstance(value, list) or all(map(test, value))

    def _properties(self, given, _schema, root):
        tests = [(name, self.compiled(item, root)) for name, item in given.items()]
        return lambda value: not isinstance(value, dict) or all(name not in value or test(value[name]) for name, test in tests)

    def _additionalProperties(self, given, schema, root):
        named, test = set(schema.get("properties", ())), self.compiled(given, root)
        return lambda value: not isinstance(value, dict) or all(name in named or test(item) for name, item in value.items())

    def _propertyNames(self, given, _schema, root):
        test = self.compiled(given, root)
        return lambda value: not isinstance(value, dict) or all(map(test, value))

    def _allOf(self, given, _schema, root):
        tests = self._tests(given, root)
        return lambda value: all(test(value) for test in tests)

    def _anyOf(self, given, _schema, root):
        tests = self._tests(given, root)
        return lambda value: any(test(value) for test in tests)

    def _oneOf(self, given, _schema, root):
        tests = self._tests(given, root)
        return lambda value: sum(test(value) for test in tests) == 1

    def _if(self, given, schema, root):
        test, then, otherwise = self._tests((given, schema.get("then", True), schema.get("else", True)), root)
        return lambda value: then(value) if test(value) else otherwise(value)
