import { type InterpolationScope, interpolate } from '../interpolate.ts';
import { type ComposeEntry, type ComposeMap, type ComposeNode, memberOf } from './compose-node.ts';
import type { ComposeSource } from './compose-source.ts';

/** Where the values of variables come from. */
export interface ValueScope extends InterpolationScope {
  /** Before the machine runs not every variable is known: a text that needs an unknown one stays as it is written. */
  readonly isDraft?: boolean;
}

/** Reads interpolated values of the expected form; every refusal names the place. */
export class ComposeValues {
  readonly source: ComposeSource;
  readonly #scope: ValueScope;

  constructor(source: ComposeSource, scope: ValueScope) {
    this.source = source;
    this.#scope = scope;
  }

  /** Whether a text may still change: checks of its form must wait. */
  isOpen(text: string): boolean {
    return this.#scope.isDraft === true && text.includes('$');
  }

  text(node: ComposeNode, what: string): string {
    if (node.kind !== 'scalar') return this.source.fail(node.at, `${what} must be a text`);
    return node.text === null ? '' : this.#interpolated(node.text, node.at);
  }

  /** Undefined when the member is missing or has no value. */
  member(map: ComposeMap, name: string): string | undefined {
    const node = memberOf(map, name);
    return node === undefined ? undefined : this.text(node, name);
  }

  /** A member that is one text or a list of texts. */
  texts(map: ComposeMap, name: string): readonly string[] {
    const node = memberOf(map, name);
    if (node === undefined) return [];
    if (node.kind === 'scalar') return [this.text(node, name)];
    return this.list(map, name).map((item) => this.text(item, name));
  }

  list(map: ComposeMap, name: string): readonly ComposeNode[] {
    const node = memberOf(map, name);
    if (node === undefined) return [];
    return node.kind === 'list' ? node.items : this.source.fail(node.at, `${name} must be a list`);
  }

  map(node: ComposeNode, what: string): ComposeMap {
    return node.kind === 'map' ? node : this.source.fail(node.at, `${what} must be a mapping`);
  }

  /** A member that is a mapping from names. */
  entries(map: ComposeMap, name: string): ReadonlyMap<string, ComposeEntry> {
    const node = memberOf(map, name);
    return node === undefined ? new Map() : this.map(node, name).entries;
  }

  flag(map: ComposeMap, name: string, otherwise: boolean): boolean {
    const text = this.member(map, name);
    if (text === undefined || this.isOpen(text)) return otherwise;
    if (/^(?:true|yes|on|y)$/i.test(text)) return true;
    if (/^(?:false|no|off|n)$/i.test(text)) return false;
    return this.source.fail((memberOf(map, name) ?? map).at, `${name} must be true or false`);
  }

  #interpolated(text: string, at: number): string {
    if (!text.includes('$')) return text;
    let isOpen = false;
    try {
      const result = interpolate(text, {
        variables: this.#scope.variables,
        onMissing: (name) => {
          isOpen = this.#scope.isDraft === true;
          this.#scope.onMissing?.(name);
        },
      });
      return isOpen ? text : result;
    } catch (error) {
      if (this.#scope.isDraft === true && /\$\{[^}]*\?/.test(text)) return text;
      return this.source.fail(at, (error as Error).message, error);
    }
  }
}
