"""The commands of ``vocoders``: one file each, with a function ``add_parser``, in the order of the help."""

from vocoders.cli.commands import bench, config, export, importing, info, listing, serve

COMMANDS = (info, listing, config, importing, export, serve, bench)
