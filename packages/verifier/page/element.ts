import { printable } from '@dstack-cloud/verifier/browser';

type Child = Node | string | undefined | false;

/**
 * An element with attributes and children. Text goes in as text: nothing is ever parsed as HTML, and what evidence says
 * can neither reorder nor hide what stands beside it.
 */
export function element(
  tag: string,
  attributes: Readonly<Record<string, string>> = {},
  ...children: readonly Child[]
): HTMLElement {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, printable(value));
  for (const child of children) {
    if (child !== undefined && child !== false)
      made.append(typeof child === 'string' ? printable(child) : child);
  }
  return made;
}

/** The element with this id, of this class; the page always has it. */
export function byId<T extends HTMLElement>(id: string, type: abstract new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`The page has no ${id}`);
}
