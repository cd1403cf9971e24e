#!/usr/bin/python3
"""Says for each YAML file whether a JSON schema takes it: python3-jsonschema as a second judge.

Usage: judge_schema.py SCHEMA FILE...; prints `valid` or `invalid` and the path, a line each.
"""

import datetime
import json
import sys

import jsonschema
import yaml


def read(path):
    with open(path, encoding="utf-8-sig") as file:
        text = file.read()
    try:
        # PyYAML takes no tabs between the tokens of JSON.
        return json.loads(text)
    except ValueError:
        return yaml.safe_load(text)


def plain(value):
    """JSON has no dates; an editor sees their text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.datetime)):
        return str(value)
    return value


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    judge = jsonschema.Draft202012Validator(schema)
    judge.check_schema(schema)
    for path in sys.argv[2:]:
        errors = list(judge.iter_errors(plain(read(path))))
        print("invalid" if errors else "valid", path)


main()
