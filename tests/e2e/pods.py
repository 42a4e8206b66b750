"""Pods as processes: a network namespace each, and a firewall made of the chart's network policies.

A pod gets the labels, variables and command that the rendered chart gives it, its services by name, and
folders for its volumes. What is not so: images, users and limits of resources (tests/e2e/test_images_run.py
has these).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NETWORK = "10.213.99"
Manifest = dict[str, Any]
Labels = Mapping[str, str]
BASE = """
table inet policies {
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
%s
  }
}
"""


def needs_namespaces() -> None:
    """Skips a test where there can be no namespaces with firewalls."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    for command, package in (("ip", "iproute2"), ("nft", "nftables")):
        if not shutil.which(command):
            pytest.skip(f"needs {package} (requirements/debian.txt)")
    tried = f"clt{os.getpid() % 10_000}"
    made = subprocess.run(["ip", "netns", "add", tried], check=False, capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"network namespaces are not allowed here: {made.stderr.strip()}")
    rules = subprocess.run(
        ["ip", "netns", "exec", tried, "nft", "-f", "-"], input=BASE % "", text=True, check=False,
        capture_output=True,
    )  # fmt: skip
    subprocess.run(["ip", "netns", "del", tried], check=False)
    if rules.returncode:
        pytest.skip(f"this kernel takes no rules of nftables: {rules.stderr.strip()[:200]}")


@dataclass(frozen=True)
class Place:
    """A pod in the network.

    Attributes:
        name: what it is called here.
        address: its own.
        labels: by which policies know it.
        namespace: of Kubernetes.
        ports: its named ports.
        services: names under which it is found.
    """

    name: str
    address: str
    labels: Labels = field(default_factory=dict)
    namespace: str = "captionloop"
    ports: Mapping[str, int] = field(default_factory=dict)
    services: tuple[str, ...] = ()

    def lets_in(self, policies: list[Manifest], other: "Place") -> set[int] | None:
        """The ports at which the policies let another pod in; None: at all, for no policy is about it."""
        mine = [
            each["spec"]
            for each in policies
            if self.namespace == "captionloop" and _has(self.labels, each["spec"]["podSelector"])
        ]
        if not mine:
            return None
        return {
            self.ports.get(str(port["port"]), port["port"])
            for policy in mine
            for rule in policy["ingress"]
            if any(_is_peer(peer, other) for peer in rule["from"])
            for port in rule["ports"]
        }

    def firewall(self, policies: list[Manifest], others: list["Place"]) -> str:
        """The rules for nft; empty where everybody is let in."""
        lines = []
        for other in others:
            ports = self.lets_in(policies, other)
            if ports is None:
                return ""
            if ports:
                port_list = ", ".join(map(str, sorted(ports)))
                lines.append(f"    ip saddr {other.address} tcp dport {{ {port_list} }} accept")
        return BASE % "\n".join(lines)


def _has(labels: Labels, selector: Manifest) -> bool:
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _is_peer(peer: Manifest, other: Place) -> bool:
    spaces = peer.get("namespaceSelector")
    same_space = (
        other.namespace == "captionloop"
        if spaces is None
        else _has({"kubernetes.io/metadata.name": other.namespace}, spaces)
    )
    return same_space and ("podSelector" not in peer or _has(other.labels, peer["podSelector"]))


class Network:
    """A switch, a namespace for each pod, and between them what the policies allow."""

    def __init__(self, places: list[Place], policies: list[Manifest]) -> None:
        self._number = os.getpid() % 10_000
        self.places = {place.name: place for place in places}
        self.policies = policies
        self._switch = f"cls{self._number}"

    @contextmanager
    def up(self) -> Iterator["Network"]:
        """All of it, as long as the context lasts."""
        try:
            self._build()
            yield self
        finally:
            for name in [self._space(name) for name in self.places] + [self._switch]:
                subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
                shutil.rmtree(f"/etc/netns/{name}", ignore_errors=True)

    def _build(self) -> None:
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "switch", "up")
        hosts = ["127.0.0.1 localhost"]
        for place in self.places.values():
            hosts += [f"{place.address} {name}" for name in place.services]
        for number, place in enumerate(self.places.values()):
            space, cable = self._space(place.name), f"pod{number}"
            _ip("netns", "add", space)
            _ip("-n", self._switch, "link", "add", cable, "type", "veth", "peer", "eth0", "netns", space)
            _ip("-n", self._switch, "link", "set", cable, "master", "switch", "up")
            _ip("-n", space, "addr", "add", f"{place.address}/24", "dev", "eth0")
            _ip("-n", space, "link", "set", "eth0", "up")
            _ip("-n", space, "link", "set", "lo", "up")
            folder = Path("/etc/netns") / space
            folder.mkdir(parents=True)
            (folder / "hosts").write_text("\n".join(hosts) + "\n")
            others = [other for other in self.places.values() if other is not place]
            rules = place.firewall(self.policies, others)
            if rules:
                subprocess.run(
                    [*self.inside(place.name), "nft", "-f", "-"], input=rules, text=True, check=True
                )

    def inside(self, name: str) -> tuple[str, ...]:
        """What to put before a command that runs in a pod."""
        return ("ip", "netns", "exec", self._space(name))

    def reaches(self, name: str, target: str, port: int) -> bool:
        """Whether a pod can open a connection to another one."""
        address = self.places[target].address
        tried = subprocess.run(
            [*self.inside(name), "timeout", "1.5", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"],
            check=False, capture_output=True,
        )  # fmt: skip
        return tried.returncode == 0

    def _space(self, name: str) -> str:
        return f"cl{self._number}-{name}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def variables_of(
    container: Manifest, secrets: Mapping[str, Mapping[str, str]], volumes: Mapping[str, Path]
) -> dict[str, str]:
    """The environment that Kubernetes gives a container, paths in its volumes as those of folders here."""
    found: dict[str, str] = {}
    for each in container.get("envFrom", []):
        found |= secrets[each["secretRef"]["name"]]
    for each in container.get("env", []):
        if "value" in each:
            found[each["name"]] = each["value"]
        else:
            key = each["valueFrom"]["secretKeyRef"]
            found[each["name"]] = secrets[key["name"]][key["key"]]
    for path, folder in volumes.items():
        found = {name: re.sub(rf"^{path}(?=/|$)", str(folder), value) for name, value in found.items()}
    return found


def command_of(container: Manifest, variables: Mapping[str, str]) -> list[str]:
    """What a container runs; of our service's image as `start.sh` says."""
    arguments = container.get("args", [])
    served = {"gateway": "Gateway", "model-server": "ModelServer"}
    if arguments[:1] == ["migrate"]:
        return [str(Path(sys.executable).with_name("captionloop")), "database", "upgrade"]
    if arguments and arguments[0] in served:
        service = f"captionloop.serving.service:{served[arguments[0]]}"
        return [sys.executable, "-m", "bentoml", "serve", service, "--host", "0.0.0.0", "--port", "3000"]
    whole = [*container["command"], *arguments]
    command = [re.sub(r"\$\((\w+)\)", lambda each: variables[each[1]], part) for part in whole]
    return [sys.executable, "-m", *command]
