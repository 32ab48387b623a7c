"""Limits what Gradio does with the files and addresses that a request names."""

from fastapi import HTTPException
from gradio import processing_utils, routes
from gradio_client.utils import is_file_obj_with_meta, is_http_url_like, traverse

from limits import Refusal
from uploads import uploaded


NO_ADDRESSES = "Addresses are not fetched. Save the image and upload it."
_move = processing_utils.async_move_files_to_cache


def install() -> None:
    """Replace functions of Gradio that have no settings.

    Before any code of an app runs, Gradio fetches every address in a request, whatever the field: files of any size,
    also from hosts that only this machine can reach. It also lists every path inside its folder for later deletion,
    and stops deleting for good at a path that it cannot delete, such as a folder.
    """
    replacements = [
        (processing_utils, "async_move_files_to_cache", _move_checked),
        (processing_utils, "async_ssrf_protected_download", _refuse_address),  # used for the paths in a request
        (processing_utils, "async_ssrf_protected_get", _refuse_address),  # used for everything else
        (routes, "secure_url_stream_response", _refuse_stream),  # GET /gradio_api/file=http://...
    ]
    for module, name, replacement in replacements:
        getattr(module, name)  # another version of Gradio may use other names: better no page than an open one
        setattr(module, name, replacement)


async def _move_checked(data, block, *args, check_in_upload_folder=False, **settings):
    if check_in_upload_folder:  # from a visitor's request, not from the app itself
        data = traverse(data, _checked, is_file_obj_with_meta)
    return await _move(data, block, *args, check_in_upload_folder=check_in_upload_folder, **settings)


def _checked(file: dict) -> dict:
    return file if is_http_url_like(file["path"]) else {**file, "path": uploaded(file["path"])}


async def _refuse_address(*args, **settings):
    raise Refusal(NO_ADDRESSES)


async def _refuse_stream(*args, **settings):
    raise HTTPException(403, NO_ADDRESSES)
