"""An ordinary view, and an asynchronous one that reads a body."""

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt


def untouched(request: HttpRequest) -> JsonResponse:
    """No plugin runs here."""
    return JsonResponse({"from": "the app"})


@csrf_exempt  # type: ignore[untyped-decorator]  # Django brings no types
async def echo(request: HttpRequest) -> HttpResponse:
    """The body, as it came."""
    return HttpResponse(request.body, content_type=request.headers.get("content-type", "text/plain"))
