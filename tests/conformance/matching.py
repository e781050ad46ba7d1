"""Patterns of the conformance script: does an answer match, and if not, where and why."""

import re

TYPES = {"string": str, "int": int, "bool": bool, "object": dict, "list": list}


class Unknown(KeyError):
    """A `$name.field` that no earlier step saved."""


def lookup(path, saved):
    """The saved value that `$name.field` stands for."""
    value = saved
    for part in path[1:].split("."):
        if not isinstance(value, dict) or part not in value:
            raise Unknown(path)
        value = value[part]
    return value


def fill(value, names, saved=None):
    """Replaces `{name}`, expands `{"repeat": s, "times": n}`, and, given `saved`, replaces `$name.field`."""
    if isinstance(value, str):
        if saved is not None and re.fullmatch(r"\$\w+(\.\w+)*", value):
            return lookup(value, saved)
        for name, text in names.items():
            value = value.replace("{" + name + "}", text)
        return value
    if isinstance(value, list):
        return [fill(item, names, saved) for item in value]
    if isinstance(value, dict):
        if set(value) == {"repeat", "times"}:
            return fill(value["repeat"], names) * value["times"]
        return {name: fill(item, names, saved) for name, item in value.items()}
    return value


def mismatch(pattern, value, saved, where="result"):
    """None if `value` matches, else a sentence that says what does not."""
    if isinstance(pattern, dict):
        operators = [name for name in pattern if name.startswith("$")]
        for name in operators:
            problem = _operator(name, pattern[name], value, saved, where)
            if problem:
                return problem
        fields = [name for name in pattern if name not in operators]
        if fields and not isinstance(value, dict):
            return f"{where} is {value!r}, not an object"
        for name in fields:
            if name not in value:
                return f"{where} has no field {name!r}: {value!r}"
            problem = mismatch(pattern[name], value[name], saved, f"{where}.{name}")
            if problem:
                return problem
        return None
    if isinstance(pattern, list):
        if not isinstance(value, list) or len(value) != len(pattern):
            return f"{where} is {value!r}, expected {pattern!r}"
        for index, item in enumerate(pattern):
            problem = mismatch(item, value[index], saved, f"{where}[{index}]")
            if problem:
                return problem
        return None
    if isinstance(pattern, str) and re.fullmatch(r"\$\w+(\.\w+)*", pattern):
        pattern = lookup(pattern, saved)
    # type() as well: 1 == True in Python, and the script means what it says.
    if type(pattern) is not type(value) or pattern != value:
        return f"{where} is {value!r}, expected {pattern!r}"
    return None


def _operator(name, argument, value, saved, where):
    if name == "$type":
        kind = TYPES[argument]
        if isinstance(value, kind) and (kind is not int or not isinstance(value, bool)):
            return None
        return f"{where} is {value!r}, expected a value of type {argument}"
    if name in ("$gte", "$plus"):
        if not isinstance(value, int) or isinstance(value, bool):
            return f"{where} is {value!r}, expected an integer"
        if name == "$gte":
            return None if value >= argument else f"{where} is {value}, expected at least {argument}"
        wanted = sum(lookup(term, saved) if isinstance(term, str) else term for term in argument)
        return None if value == wanted else f"{where} is {value}, expected {wanted}"
    if name == "$contains":

        def plain(text):
            return text.lower().replace("_", "")

        if isinstance(value, str) and plain(argument) in plain(value):
            return None
        return f"{where} is {value!r}, expected a text containing {argument!r}"
    if name == "$match":
        if isinstance(value, str) and re.fullmatch(argument, value):
            return None
        return f"{where} is {value!r}, expected a text like {argument}"
    if name in ("$some", "$none"):
        if not isinstance(value, list):
            return f"{where} is {value!r}, expected a list"
        found = any(mismatch(argument, item, saved) is None for item in value)
        if found == (name == "$some"):
            return None
        return f"{where} has {'no' if name == '$some' else 'an'} element like {argument!r}: {value!r}"
    raise ValueError(f"unknown operator {name}")
