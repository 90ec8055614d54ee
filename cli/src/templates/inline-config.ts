/** Text as the block of `content: |` of a compose file's configs: indented, and no variable of it is replaced. */
export function inlineConfig(text: string): string {
  return text
    .split('\n')
    .map((line) => (line === '' ? '' : `      ${line.replaceAll('$', '$$$$')}`))
    .join('\n');
}
