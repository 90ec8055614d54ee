import { type ComposeFile, sectionOf } from './compose-file.ts';
import { type ComposeMap, type ComposeNode, memberOf } from './compose-node.ts';
import { ComposeValues } from './compose-values.ts';
import { envFiles, isSealedEnv } from './service-environment.ts';
import { contentOf } from './service-files.ts';

/** A file that a compose file names and that only its author's machine has: nothing but the file itself travels. */
export interface StayingFile {
  readonly path: string;
  /** Who names it. */
  readonly user: string;
  readonly at: number;
  /** What to write instead. */
  readonly instead: string;
  /** A service cannot start without it. */
  readonly required: boolean;
}

/**
 * The files that do not travel to the machine. `env_file: .env` is the sealed environment there, so it is listed only
 * when nothing is sealed.
 */
export function filesThatStay(file: ComposeFile, hasSealedEnv: boolean): StayingFile[] {
  const values = new ComposeValues(file.source, { variables: {}, isDraft: true });
  return [
    ...[...file.services].flatMap(([name, service]) => [
      ...environmentFiles(name, service, values, hasSealedEnv),
      ...extendedFile(name, service, values),
    ]),
    ...definitions(file, values),
    ...included(file, values),
  ].filter(({ path }) => !values.isOpen(path));
}

function environmentFiles(
  name: string,
  service: ComposeMap,
  values: ComposeValues,
  hasSealedEnv: boolean,
): StayingFile[] {
  return envFiles(service, values)
    .filter(({ path }) => !(hasSealedEnv && isSealedEnv(path)))
    .map(({ path, at, required }) => ({
      path,
      at,
      required: required && !isSealedEnv(path),
      user: `env_file of service ${name}`,
      instead: isSealedEnv(path)
        ? 'nothing is sealed for this app: write NAME=value lines into .env, with key_provider kms'
        : 'name its variables under environment, or move secret ones into .env, which is sealed',
    }));
}

function extendedFile(name: string, service: ComposeMap, values: ComposeValues): StayingFile[] {
  const node = memberOf(service, 'extends');
  const path = node?.kind === 'map' ? values.member(node, 'file') : undefined;
  if (node === undefined || path === undefined) return [];
  const instead = 'copy what it takes from there into this file';
  return [{ path, at: node.at, user: `extends of service ${name}`, instead, required: true }];
}

function definitions(file: ComposeFile, values: ComposeValues): StayingFile[] {
  return (['secrets', 'configs'] as const).flatMap((section) =>
    [...sectionOf(file, section)].flatMap(([name, { value }]) => {
      const content = contentOf(value, values);
      if (content.from !== 'file') return [];
      const instead =
        section === 'secrets'
          ? 'take it from a variable (environment: NAME) that .env seals'
          : 'write it into this file (content: |)';
      const user = `${section.slice(0, -1)} ${name}`;
      return [{ path: content.path, at: content.at, user, instead, required: isUsed(file, section, name) }];
    }),
  );
}

function isUsed({ services }: ComposeFile, section: 'secrets' | 'configs', name: string): boolean {
  return [...services.values()].some((service) => {
    const uses = memberOf(service, section);
    return uses?.kind === 'list' && uses.items.some((use) => sourceOf(use) === name);
  });
}

function sourceOf(use: ComposeNode): string | null | undefined {
  const node = use.kind === 'map' ? memberOf(use, 'source') : use;
  return node?.kind === 'scalar' ? node.text : undefined;
}

function included({ root }: ComposeFile, values: ComposeValues): StayingFile[] {
  const instead = 'put its services into this file';
  return values.list(root, 'include').flatMap((item) => {
    const paths = item.kind === 'map' ? values.texts(item, 'path') : [values.text(item, 'include')];
    return paths.map((path) => ({ path, at: item.at, user: 'include', instead, required: true }));
  });
}
