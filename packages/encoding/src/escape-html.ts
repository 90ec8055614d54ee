import { printable } from './printable.ts';

/** The longest text that is shown: the TCB info with its event log has some 100 KiB. */
const MAX_LENGTH = 1024 * 1024;

/**
 * Text for HTML, also inside attribute values: everything special becomes a numeric reference, and what would reorder or
 * hide other text is made visible.
 */
export function escapeHtml(text: string): string {
  return printable(text, { max: MAX_LENGTH, keep: '\n\t' }).replace(
    /[&<>"'`]/g,
    (character) => `&#${character.charCodeAt(0)};`,
  );
}
