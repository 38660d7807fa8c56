// The theme lets the keyboard reach whatever scrolls, but looks for it only as the page loads or the
// window changes: it has to look again when a hidden cell's code is shown.
document.addEventListener("toggle", () => dispatchEvent(new Event("resize")), true);

// Paper is white, whatever the screen shows.
{
  const root = document.documentElement.dataset;
  let theme;
  addEventListener("beforeprint", () => { theme = root.theme; root.theme = "light"; });
  addEventListener("afterprint", () => { root.theme = theme; });
}

// From file://, Sphinx's search may not fetch the pages that it found, to quote from them.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
