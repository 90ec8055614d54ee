/** Text for HTML, also inside attribute values: everything special becomes a numeric reference. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"'`]/g, (character) => `&#${character.charCodeAt(0)};`);
}
