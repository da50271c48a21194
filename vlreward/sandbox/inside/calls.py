"""Which primitives a plotting call draws: the call's name is believed where its ink is of one of these."""

ALL = frozenset({"line", "points", "rect", "area", "wedge", "mesh", "image"})
_BY_PRIMITIVE = {
    "line": "plot step loglog semilogx semilogy axhline axvline axline hlines vlines errorbar stem boxplot bxp violinplot violin contour "
    "tricontour streamplot eventplot ecdf triplot plot_wireframe hist stairs spy",
    "points": "scatter plot loglog semilogx semilogy errorbar stem hexbin boxplot bxp spy quiver barbs",
    "rect": "bar barh hist axhspan axvspan boxplot bxp table stairs",
    "area": "fill_between fill_betweenx fill stackplot violinplot violin contourf tricontourf hexbin quiver barbs streamplot arrow "
    "broken_barh plot_surface plot_trisurf bar3d hist stairs scatter axhspan axvspan",
    "wedge": "pie bar barh hist",
    "mesh": "pcolormesh pcolor pcolorfast hist2d tripcolor specgram hexbin colorbar",
    "image": "imshow matshow spy specgram pcolorfast colorbar",
}
PRIMITIVES: dict[str, frozenset[str]] = {}
for _primitive, _names in _BY_PRIMITIVE.items():
    for _name in _names.split():
        PRIMITIVES[_name] = PRIMITIVES.get(_name, frozenset()) | {_primitive}
CALLS = frozenset(PRIMITIVES) - {"colorbar"}
"""Methods of an axes that count as plotting calls."""
