"""Says fast that a fact fits its schema. Standard library only.

jsonschema takes milliseconds for each fact, which is many seconds for a thousand nodes. Here a schema becomes functions once. They say
only *yes*: a fact that they do not accept, for whatever reason, is left to jsonschema, which finds the words. A keyword that is not known
here accepts nothing, so that nothing passes that jsonschema would refuse.
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


def accepts(schema, find):
    """Return a function that says whether it accepts a value; ``find`` returns the schema that a ``$ref`` names, or None."""
    return _Compiler(find).compiled(schema, schema)


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
        return maker(given, schema, root) if maker else lambda _value: False

    def _all(self, schemas, root):
        return [self.compiled(item, root) for item in schemas]

    def _ref(self, given, _schema, root):
        document, _hash, path = given.partition("#")
        target = root = self._find(document) if document else root
        for part in path.split("/")[1:]:
            target = target.get(part) if isinstance(target, dict) else None
        return self.compiled(target, root) if isinstance(target, (dict, bool)) else lambda _value: False

    def _type(self, given, _schema, _root):
        wanted = [TYPES[name] for name in ([given] if isinstance(given, str) else given)]
        return wanted[0] if len(wanted) == 1 else lambda value: any(test(value) for test in wanted)

    def _enum(self, given, _schema, _root):
        # True is no 1 in JSON, and 1 is 1.0: what is equal but of another type is compared by jsonschema.
        known = [item for item in given if isinstance(item, (str, bool, int)) or item is None]
        return lambda value: any(type(value) is type(item) and value == item for item in known)

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
        tests = self._all(given, root)
        return lambda value: all(test(value) for test in tests)

    def _anyOf(self, given, _schema, root):
        tests = self._all(given, root)
        return lambda value: any(test(value) for test in tests)

    def _if(self, given, schema, root):
        """``if`` may be refused here and hold all the same: so both branches have to accept then, unless nothing hangs on it."""
        test, then, otherwise = (self.compiled(part, root) for part in (given, schema.get("then", True), schema.get("else", True)))
        if not self._exact(given):
            return lambda value: then(value) and otherwise(value)
        return lambda value: then(value) if test(value) else otherwise(value)

    def _exact(self, schema):
        """Return whether the function of a schema says no only where jsonschema does: simple tests of texts by name."""
        if isinstance(schema, bool):
            return True
        for name, given in schema.items():
            if name == "properties" and all(self._exact(item) for item in given.values()):
                continue
            if name in ("enum", "const") and all(isinstance(item, str) for item in ([given] if name == "const" else given)):
                continue
            if name in ("required", "type"):
                continue
            return False
        return True
