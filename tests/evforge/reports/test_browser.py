"""The page in a headless Chromium: figures are drawn and have texts, tables sort, nothing fails or uses the network."""

import json
import os
import re
import shutil
import subprocess
from html import unescape

import pytest

from evforge.reports.study_page import report

BROWSER = os.environ.get("CHROME") or shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="needs Chromium: `apt-get install chromium`, or its path in the variable CHROME"
)

RECORD = """<script>
const problems = [];
const note = (...values) => problems.push(values.join(" "));
window.addEventListener("error", (event) => note(event.message));
window.addEventListener("unhandledrejection", (event) => note(event.reason));
document.addEventListener("securitypolicyviolation", (event) => note(event.violatedDirective, event.blockedURI));
console.error = console.warn = note;
</script>"""
CHECK = """<script>
const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));
const texts = (selector, root = document) => [...root.querySelectorAll(selector)].map((part) => part.textContent);
async function hover(plot) {
  const point = [...plot.querySelectorAll(".points path, .points .point path")].at(-1);
  point.scrollIntoView();
  const box = point.getBoundingClientRect();
  const place = { clientX: box.x + box.width / 2, clientY: box.y + box.height / 2, bubbles: true };
  const layer = plot.querySelector(".nsewdrag");
  layer.dispatchEvent(new MouseEvent("mouseover", place));
  layer.dispatchEvent(new MouseEvent("mousemove", place));
  await pause(1);
  return texts(".hovertext", plot);
}
function sorted(index) {
  document.querySelectorAll(".sortable th button")[index].click();
  return texts(".sortable tbody td:first-child").map((text) => text.split(" ")[0]);
}
(async () => {
  await pause(3);
  const plots = [...document.querySelectorAll(".plot")];
  const result = {
    names: sorted(0), values: sorted(1), again: sorted(1),
    drawn: plots.map((plot) => plot.querySelectorAll("svg.main-svg path").length),
    hovers: [await hover(plots[0]), await hover(plots[3])],
    buttons: texts(".command button"),
    width: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    requests: performance.getEntriesByType("resource").map((entry) => entry.name),
    problems,
  };
  const output = document.createElement("pre");
  output.id = "result";
  output.textContent = JSON.stringify(result);
  document.body.append(output);
})();
</script>"""


def run_browser(page, tmp_path, width):
    """Open a page that checks itself, and return what it found."""
    before, _, after = page.partition("<head>")
    after, _, end = after.rpartition("</body>")
    path = tmp_path / "checked.html"
    path.write_text(f"{before}<head>{RECORD}{after}{CHECK}</body>{end}")
    # The virtual time does not depend on the speed of the machine.
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000", "--dump-dom"]
    own = [f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900", path.as_uri()]
    done = subprocess.run([BROWSER, *options, *own], capture_output=True, text=True, timeout=500, check=True)
    (found,) = re.findall(r'<pre id="result">(.*?)</pre>', done.stdout, re.DOTALL)
    return json.loads(unescape(found))


@pytest.mark.parametrize("width", [1280, 500])
def test_the_page_works_in_a_browser(study, tmp_path, width):
    found = run_browser(report(study[0]).read_text(), tmp_path, width)
    assert found["problems"] == [] and found["requests"] == []
    assert len(found["drawn"]) == 10 and min(found["drawn"]) > 5
    assert found["hovers"][0][0].startswith("trial-2epoch 2val_mean_ap 0.4200")
    assert found["hovers"][1][0].startswith("trial-2val_mean_ap 0.4200anchors.anchor_list PSEE_ANCHORS")
    assert found["names"] == [f"trial-{number}" for number in range(1, 9)]
    assert found["values"][-1] == found["again"][-1] == "trial-8", "a trial without a value is at the end"
    assert found["values"][0] in ("trial-2", "trial-4", "trial-6") and found["again"][0] in ("trial-1", "trial-3")
    assert found["buttons"] == ["copy"] and found["width"] <= 0
