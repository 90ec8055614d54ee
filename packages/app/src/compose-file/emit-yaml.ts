import type { ComposeNode } from './compose-node.ts';

/**
 * Plain scalars that are more than text to some engine: numbers, times, truth values. They are written as they were;
 * everything else is text, in double quotes (YAML 1.2.2 section 7.3.1; JSON's escapes are a part of its own).
 */
const TYPED =
  /^(?:[-+]?\.?[0-9](?:[A-Za-z0-9+._:-]*[A-Za-z0-9+._-])?|[-+]?\.(?:inf|nan)|true|false|yes|no|on|off|y|n)$/i;

/** YAML text of a tree, aliases written out, that every engine reads as it would read the original. */
export function emitYaml(node: ComposeNode): string {
  const parts: string[] = [];
  write(node, parts);
  parts.push('\n');
  return parts.join('');
}

function write(node: ComposeNode, parts: string[]): void {
  if (node.kind === 'scalar') {
    if (node.text === null) parts.push('null');
    else parts.push(node.plain && TYPED.test(node.text) ? node.text : text(node.text));
    return;
  }
  const [open, close] = node.kind === 'list' ? '[]' : '{}';
  parts.push(open as string);
  let isFirst = true;
  const next = (): void => {
    if (!isFirst) parts.push(', ');
    isFirst = false;
  };
  if (node.kind === 'list')
    for (const item of node.items) {
      next();
      write(item, parts);
    }
  else
    for (const [key, { value }] of node.entries) {
      next();
      parts.push(text(key), ': ');
      write(value, parts);
    }
  parts.push(close as string);
}

/** All but ASCII is escaped, whole characters at once: readers differ in what they take for printable. */
function text(value: string): string {
  return JSON.stringify(value).replace(/[\u{7f}-\u{10ffff}]/gu, (character) => {
    const code = (character.codePointAt(0) as number).toString(16);
    return code.length > 4 ? `\\U${code.padStart(8, '0')}` : `\\u${code.padStart(4, '0')}`;
  });
}
