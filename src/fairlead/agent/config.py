"""Reading an agent's configuration file."""

from __future__ import annotations

from pathlib import Path

import msgspec

from fairlead.model.launch import AgentConfig


class ConfigError(Exception):
    """The file cannot be used; the text names it, the field and the reason."""


def read(path: Path, limit: int) -> AgentConfig:
    """The configuration in a JSON file of at most `limit` bytes. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            body = file.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(body) > limit:
        raise ConfigError(f"{path} is larger than {limit} bytes")
    try:
        config = msgspec.json.decode(body, type=AgentConfig)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"{path}: {error}") from None
    for field in ("directory", "root_cert_file", "token_file", "working_dir", "app_log", "envoy"):
        value = getattr(config, field)
        if value and not Path(value).is_absolute():
            raise ConfigError(f"{path}: {field}: {value!r} must be an absolute path")
    if not config.directory or not config.xds_address or not config.join_address:
        raise ConfigError(f"{path}: directory, xds_address and join_address must not be empty")
    if config.entry and config.workload_group:
        raise ConfigError(f"{path}: entry and workload_group: a member's entry is written for it, leave entry out")
    if config.capture.mode == "netns" and not config.capture.netns:
        raise ConfigError(f"{path}: capture.netns: required by mode netns")
    return config
