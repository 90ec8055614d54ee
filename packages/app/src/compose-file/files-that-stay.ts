import { type ComposeFile, sectionOf } from './compose-file.ts';
import { type ComposeMap, type ComposeNode, memberOf } from './compose-node.ts';
import { ComposeValues } from './compose-values.ts';
import { envFiles, isSealedEnv } from './service-environment.ts';
import { contentOf } from './service-files.ts';

/** A file that a compose file names and that only its author's machine has: nothing but the file itself travels. */
interface StayingFile {
  readonly path: string;
  readonly kind: 'file' | 'build context';
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
function filesThatStay(file: ComposeFile, hasSealedEnv: boolean): StayingFile[] {
  const values = new ComposeValues(file.source, { variables: {}, isDraft: true });
  return [
    ...[...file.services].flatMap(([name, service]) => [
      ...environmentFiles(name, service, values, hasSealedEnv),
      ...extendedFile(name, service, values),
      ...buildContext(name, service, values),
    ]),
    ...definitions(file, values),
    ...included(file, values),
  ]
    .map((one) => ({ kind: 'file' as const, ...one }))
    .filter(({ path }) => !values.isOpen(path) && !isOfTheMachine(path));
}

/** Most are files. */
type FoundFile = Omit<StayingFile, 'kind'> & Partial<Pick<StayingFile, 'kind'>>;

/** What makes files inside the machine, or stands for them. */
export interface StayingFileOptions {
  /** Whether an environment is sealed for the application. */
  readonly hasSealedEnv: boolean;
  /** The scripts that run in the machine before its containers; they can make any file. */
  readonly scripts: readonly string[];
}

/** What each file means for the author, and which of them keep the application from starting. */
export function explainStayingFiles(
  file: ComposeFile,
  { hasSealedEnv, scripts }: StayingFileOptions,
): { readonly warnings: readonly string[]; readonly blockers: readonly string[] } {
  const hasScript = scripts.some(doesSomething);
  const found = filesThatStay(file, hasSealedEnv).map(({ path, kind, user, instead, required }) => ({
    text: `${user}: the ${kind} ${path} does not travel to the machine; ${instead}`,
    blocks: required && !hasScript,
  }));
  return {
    warnings: found.map(({ text }) => text),
    blockers: found.filter(({ blocks }) => blocks).map(({ text }) => text),
  };
}

/** Comments and blank lines make no files. */
function doesSomething(script: string): boolean {
  return script.split('\n').some((line) => !/^\s*(?:#|$)/.test(line));
}

/** Every machine has something there. */
const MACHINE_PATHS =
  /^\/(?:$|(?:bin|boot|dev|dstack|etc|lib|lib64|proc|root|run|sbin|sys|tmp|usr|var)(?:\/|$))/;

export function isOfTheMachine(path: string): boolean {
  return MACHINE_PATHS.test(path);
}

function environmentFiles(
  name: string,
  service: ComposeMap,
  values: ComposeValues,
  hasSealedEnv: boolean,
): FoundFile[] {
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

function extendedFile(name: string, service: ComposeMap, values: ComposeValues): FoundFile[] {
  const node = memberOf(service, 'extends');
  const path = node?.kind === 'map' ? values.member(node, 'file') : undefined;
  if (node === undefined || path === undefined) return [];
  const instead = 'copy what it takes from there into this file';
  return [{ path, at: node.at, user: `extends of service ${name}`, instead, required: true }];
}

/** A folder, or an address that the machine can fetch from. A Dockerfile in the compose file needs no folder. */
function buildContext(name: string, service: ComposeMap, values: ComposeValues): FoundFile[] {
  const node = memberOf(service, 'build');
  if (node === undefined) return [];
  const isMap = node.kind === 'map';
  const path = (isMap ? values.member(node, 'context') : values.text(node, 'build')) || '.';
  if (/^(?:[a-z][a-z0-9+.-]*:\/\/|git@|github\.com\/)/i.test(path)) return [];
  return [
    {
      ...{ path, kind: 'build context', at: node.at, user: `build of service ${name}` },
      instead: 'push an image, and name it under image',
      required: !isMap || memberOf(node, 'dockerfile_inline') === undefined,
    },
  ];
}

function definitions(file: ComposeFile, values: ComposeValues): FoundFile[] {
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

function included({ root }: ComposeFile, values: ComposeValues): FoundFile[] {
  const instead = 'put its services into this file';
  return values.list(root, 'include').flatMap((item) => {
    const paths = item.kind === 'map' ? values.texts(item, 'path') : [values.text(item, 'include')];
    return paths.map((path) => ({ path, at: item.at, user: 'include', instead, required: true }));
  });
}
