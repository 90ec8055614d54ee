/** Writes every character above U+007E as `\uXXXX`, so that the JSON text is ASCII; the value stays the same. */
export function escapeNonAscii(jsonText: string): string {
  return jsonText.replace(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
