// Addresses of this page that open a document, as citations in other programs have them.

/** The document that a fragment names, `#store=…&document=…&page=…&offset=…`; null where it names none. */
export function linkedPlace(fragment) {
  const given = new URLSearchParams(fragment.slice(1));
  const number = (name) => (/^\d{1,15}$/.test(given.get(name) ?? "") ? Number(given.get(name)) : null);
  if (!given.get("document")) return null;
  return { store: given.get("store"), document: given.get("document"), page: number("page"), offset: number("offset") };
}
