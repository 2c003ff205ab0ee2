"""Starts a source of osbuild, has it download items, and prints its answer: osbuild_host.py MODULE CACHE ITEMS.json."""

import json
import os
import socket
import subprocess
import sys

module, cache, items = sys.argv[1:]
with open(items, encoding="utf-8") as file:
    arguments = {"items": json.load(file), "options": {}, "cache": cache, "output": None, "checksums": []}
ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
service = subprocess.Popen(
    [module, "--service-id", f"source/{os.path.basename(module)}", "--service-fd", str(theirs.fileno())],
    pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
theirs.close()
ours.send(json.dumps({"type": "method", "data": {"name": "download", "args": arguments}}).encode())
answer = json.loads(ours.recv(1 << 20))
ours.close()
service.wait()
reply = answer.get("data", {}).get("reply") or {}
if answer.get("type") != "reply" or not reply.get("success"):
    sys.exit(f"error: {json.dumps(answer)}")
