"""Write the JSON files of all dashboards."""

import json
from pathlib import Path

from dashboards import build

for uid, dashboard in build().items():
    file = Path(__file__).with_name(f"{uid}.json")
    file.write_text(json.dumps(dashboard, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(file.name)
