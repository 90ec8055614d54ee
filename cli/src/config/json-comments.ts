import {
  applyEdits,
  type FormattingOptions,
  modify,
  type Node,
  type ParseError,
  parseTree,
  printParseErrorCode,
} from 'jsonc-parser';
import { CliError } from '../errors.ts';

type Code = 'bad_config' | 'bad_app_json';

const MARK = '\ufeff';

/**
 * Parses an object of JSON with comments; a trailing comma or a repeated member is an error that names file, line and
 * column.
 */
export function parseJsonObject(text: string, path: string, code: Code): Record<string, unknown> {
  const body = text.startsWith(MARK) ? text.slice(1) : text;
  const fail = (offset: number, problem: string, hint: string): never => {
    const before = body.slice(0, offset).split('\n');
    throw new CliError(code, `${path}:${before.length}:${(before.at(-1)?.length ?? 0) + 1} ${problem}`, {
      hint,
    });
  };
  const errors: ParseError[] = [];
  let root: Node | undefined;
  try {
    root = parseTree(body, errors, { allowTrailingComma: false });
  } catch {
    // The parser calls itself at each level.
    return fail(0, 'is no valid JSON: nested too deeply', `Correct ${path}`);
  }
  const [problem] = errors;
  if (problem !== undefined)
    fail(
      problem.offset,
      `is no valid JSON: ${inWords(printParseErrorCode(problem.error))}`,
      `Correct ${path}; comments are allowed, trailing commas are not`,
    );
  if (root?.type !== 'object')
    throw new CliError(code, `${path} must hold one JSON object`, {
      hint: `Put the settings of ${path} in { }`,
    });
  return toValue(root, (key, offset) =>
    fail(offset, `has the member ${JSON.stringify(key)} twice`, `Keep one of them in ${path}`),
  ) as Record<string, unknown>;
}

/** The same text with one member of the object changed, or added; comments, order and layout stay. */
export function withJsonMember(text: string, key: string, value: string): string {
  const mark = text.startsWith(MARK) ? MARK : '';
  const body = text.slice(mark.length);
  const formattingOptions: FormattingOptions = {
    insertSpaces: !/^\t/m.test(body),
    tabSize: /^( +)\S/m.exec(body)?.[1]?.length ?? 2,
    eol: body.includes('\r\n') ? '\r\n' : '\n',
  };
  return mark + applyEdits(body, modify(body, [key], value, { formattingOptions }));
}

/** Members become own ones, whatever their name. */
function toValue(node: Node, repeated: (key: string, offset: number) => void): unknown {
  if (node.type === 'array') return (node.children ?? []).map((child) => toValue(child, repeated));
  if (node.type !== 'object') return node.value;
  const members = new Map<string, unknown>();
  for (const { children } of node.children ?? []) {
    const [name, value] = children as [Node, Node];
    if (members.has(name.value)) repeated(name.value, name.offset);
    members.set(name.value, toValue(value, repeated));
  }
  return Object.fromEntries(members);
}

/** `PropertyNameExpected` as text. */
function inWords(code: string): string {
  return code.replace(/(?!^)[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`).toLowerCase();
}
