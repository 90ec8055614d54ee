import { type ComposeMap, type ComposeNode, memberOf } from './compose-node.ts';
import { quoted } from './compose-source.ts';
import type { ComposeValues } from './compose-values.ts';

/** One mount of a service. */
export interface VolumeUse {
  readonly at: number;
  readonly type: 'bind' | 'volume' | 'tmpfs' | 'other';
  /** Path of a bind mount or name of a volume; undefined for an anonymous one. */
  readonly source: string | undefined;
  readonly target: string;
  readonly readOnly: boolean;
  /** Short form: a missing path of a bind mount is made. */
  readonly isShort: boolean;
}

/** Paths start with one of these; everything else is the name of a volume. */
const PATH = /^[./~]/;

/** The mounts of a service in their order. A text that a variable still changes is left out. */
export function serviceVolumes(service: ComposeMap, values: ComposeValues): VolumeUse[] {
  return values.list(service, 'volumes').flatMap((item) => readVolume(item, values) ?? []);
}

/** Reads the short form, `source:target:options`, or the mapping form. */
export function readVolume(item: ComposeNode, values: ComposeValues): VolumeUse | undefined {
  const { at } = item;
  if (item.kind === 'map') {
    const type = values.member(item, 'type') ?? 'volume';
    const target = values.member(item, 'target') ?? values.source.fail(at, 'the volume has no target');
    return {
      at,
      type: type === 'bind' || type === 'volume' || type === 'tmpfs' ? type : 'other',
      source: values.member(item, 'source'),
      target,
      readOnly: values.flag(item, 'read_only', false),
      isShort: false,
    };
  }
  const text = values.text(item, 'volumes');
  if (values.isOpen(text)) return undefined;
  const parts = text.split(':');
  const [first = '', second, options = '', ...more] = parts;
  if (first === '' || second === '' || more.length > 0)
    values.source.fail(at, `${quoted(text)} is no volume; source:target or source:target:ro is expected`);
  const source = second === undefined ? undefined : first;
  return {
    at,
    type: source !== undefined && PATH.test(source) ? 'bind' : 'volume',
    source,
    target: second ?? first,
    readOnly: options.split(',').includes('ro'),
    isShort: true,
  };
}

/** Names of volumes that the file defines as somebody else's. */
export function isExternal(definition: ComposeNode | undefined): boolean {
  if (definition?.kind !== 'map') return false;
  const external = memberOf(definition, 'external');
  return (
    external !== undefined && !(external.kind === 'scalar' && /^(?:false|no|off)$/i.test(external.text ?? ''))
  );
}
