"""What Gradio does with the files that a request names, within the bounds of this Space."""

from fastapi import HTTPException
from gradio import processing_utils, routes
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse

from limits import Refusal
from pictures import uploaded


NO_ADDRESSES = "Addresses are not fetched. Save the picture and upload it."
_move = processing_utils.async_move_files_to_cache


def install() -> None:
    """Replaces functions of Gradio, for which it has no settings.

    Before any code of an app runs, Gradio fetches whatever address stands in a request, for every kind of field: of
    any size, and from this machine's place in the network. It also notes every path inside its folder as a file to
    delete later, and stops deleting for good at one that cannot be deleted, such as a folder.
    """
    replacements = [
        (processing_utils, "async_move_files_to_cache", _move_checked),
        (processing_utils, "async_ssrf_protected_download", _refuse_address),  # for the paths in a request
        (processing_utils, "async_ssrf_protected_get", _refuse_address),  # what everything else fetches with
        (routes, "secure_url_stream_response", _refuse_stream),  # GET /gradio_api/file=http://...
    ]
    for module, name, replacement in replacements:
        getattr(module, name)  # another Gradio may fetch by other names: better no page than an open one
        setattr(module, name, replacement)


async def _move_checked(data, block, *args, check_in_upload_folder=False, **settings):
    if check_in_upload_folder:  # a visitor's request, not what the app itself shows
        data = traverse(data, _checked, is_file_obj_with_meta)
    return await _move(data, block, *args, check_in_upload_folder=check_in_upload_folder, **settings)


def _checked(file: dict) -> dict:
    return file if is_http_url_like(file["path"]) else {**file, "path": uploaded(file["path"])}


async def _refuse_address(*args, **settings):
    raise Refusal(NO_ADDRESSES)


async def _refuse_stream(*args, **settings):
    raise HTTPException(403, NO_ADDRESSES)
