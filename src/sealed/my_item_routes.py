"""The items that a user keeps with the account, over HTTP."""

from typing import Any

from aiohttp import web

from ..accounts.guards import CALLER
from ..api.origin import Origin
from ..api.routing import Guard, Route, id_of
from .my_items import MyItems
from .problems import ItemNotFound
from .routes import RECEIPTS, receipt_fields
from .schemas import MyItemAnswer, MyItemsAnswer, MyItemsQuery


class MyItemRoutes:
    """The routes of kept items."""

    def __init__(self, my_items: MyItems, guard: Guard, origin: Origin) -> None:
        self._my_items = my_items
        self._guard = guard
        self._origin = origin

    def routes(self) -> list[Route[Any]]:
        """Return the declarations."""
        return [
            Route(
                method="GET",
                path="/me/items",
                tag=RECEIPTS,
                summary="List the secrets and messages that your account keeps",
                description="Newest first, with their states. No item is repeated or skipped while others are added or"
                " deleted. The server has no link to any of them.",
                guard=self._guard,
                handler=self.page,
                query=MyItemsQuery,
                answer=MyItemsAnswer,
            ),
            Route(
                method="DELETE",
                path="/me/items/{item_id}",
                path_parameters={"item_id": "The `id` of an item, from GET /me/items."},
                tag=RECEIPTS,
                summary="Burn one of your secrets or messages",
                guard=self._guard,
                handler=self.burn,
                status=204,
                problems=(ItemNotFound,),
            ),
        ]

    async def page(self, request: web.Request, query: MyItemsQuery) -> MyItemsAnswer:
        """List the items that the caller keeps."""
        items, cursor = await self._my_items.page(request[CALLER].user_id, cursor=query.before, limit=query.limit)
        return MyItemsAnswer(
            items=[
                MyItemAnswer(id=item.item_id.hex(), kind=item.kind, **receipt_fields(item.status)) for item in items
            ],
            next=cursor,
        )

    async def burn(self, request: web.Request, _: None) -> None:
        """Burn an item that the caller keeps."""
        network = self._origin.network(request)
        await self._my_items.burn(request[CALLER].user_id, id_of(request, "item_id"), network)
