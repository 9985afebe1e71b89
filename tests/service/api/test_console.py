import re

from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop

NAMED = re.compile(r'(?:href=|src=|from )"([^"]+)"')


def test_the_root_leads_to_the_page(loop: Loop) -> None:
    answer = loop.client.get("/")
    assert answer.status_code == 200
    assert answer.url.path == "/console/"
    assert answer.headers["content-type"].startswith("text/html")


def test_it_is_there_before_there_is_anything_to_show(make_loop: MakeLoop) -> None:
    loop = make_loop(None, redis_url="redis://127.0.0.1:1")
    assert loop.client.get("/console/").status_code == 200


def test_everything_that_the_page_names_is_served_from_here(loop: Loop) -> None:
    named, found = {"/console/index.html"}, set[str]()
    while left := named - found:
        path = left.pop()
        found.add(path)
        answer = loop.client.get(path)
        assert answer.status_code == 200, path
        if not path.startswith("/console/"):
            continue
        names = set(NAMED.findall(answer.text)) - {"data:,"}
        assert not [name for name in names if "//" in name], path
        named |= {str(answer.url.join(name).path) for name in names}
    assert {path.rpartition(".")[2] for path in found} >= {"html", "css", "js", "/docs"}


def test_what_the_page_reads_is_exported(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle())
    slate = loop.recommend(user_id="user-0", limit=2, explain=True)
    loop.send({"type": "impression", "attribution_token": slate["attribution_token"]})
    loop.fold()
    script = "".join(loop.client.get(f"/console/{name}.js").text for name in ("console", "slate"))
    exposition = loop.client.get("/metrics").text
    for name in set(re.findall(r"om_\w+", script)):
        assert re.search(rf"^{name}(_bucket)?{{?", exposition, re.MULTILINE), name
