"""A real browser, without a screen, for pages on disk."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # Whatever the page asks the network for fails, and is seen in the probe.
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


def browse(page: Path, script: str, *, width: int, height: int = 900) -> Any:
    """Open a page, run a script in it, and give back what the script's ``probe`` function returns."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    assert program
    with tempfile.TemporaryDirectory() as folder:
        probed = Path(folder) / "page.html"
        code = (
            f"<script>addEventListener('load', () => {{ {script}\n"
            "const out = document.createElement('pre'); out.id = 'probe';"
            "out.textContent = JSON.stringify(probe()); document.body.append(out); });</script>"
        )
        probed.write_text(page.read_text("utf-8").replace("</body>", code + "</body>"), "utf-8")
        done = subprocess.run(
            [
                program,
                *FLAGS,
                f"--user-data-dir={folder}/profile",
                f"--window-size={width},{height}",
                "--virtual-time-budget=5000",
                "--dump-dom",
                probed.as_uri(),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
    found = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))
