import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type BuildOptions, type BuildResult, build } from 'esbuild';
import { isUpToDate, writeStamp } from './build-stamp.ts';

const LIBRARY = 'packages/verifier/src/browser/index.ts';
const PAGE = 'packages/verifier/page';
/** Name of the ES module, without its ending. */
const MODULE = 'dstack-verifier';
/** What goes into the page besides the modules that esbuild finds. */
const PARTS = [
  `${PAGE}/index.html`,
  `${PAGE}/style.css`,
  'scripts/src/build/build-verifier-page.ts',
] as const;

interface PageOptions {
  readonly repository: string;
  readonly outDirectory: string;
  readonly force: boolean;
}

/**
 * Builds the browser's verifier: `dstack-verifier.js`, an ES module without imports, and `index.html`, a page
 * in one file that works from a server and from a disk. Its policy allows exactly its own script and style, by
 * their hashes, and requests to the addresses that a person enters.
 */
export async function buildVerifierPage(options: PageOptions): Promise<{ fresh: boolean }> {
  const { repository, outDirectory } = options;
  if (!options.force && (await isUpToDate(repository, outDirectory, [MODULE]))) return { fresh: true };
  const library = await bundle(repository, LIBRARY);
  const page = await bundle(repository, `${PAGE}/main.ts`);
  const [html, css] = await Promise.all(
    [PARTS[0], PARTS[1]].map((path) => readFile(join(repository, path), 'utf8')),
  );
  const style = await minifiedCss(css!);
  await mkdir(outDirectory, { recursive: true });
  await replace(join(outDirectory, `${MODULE}.js`), library.text);
  await replace(join(outDirectory, 'index.html'), assemble(html!, style, page.text));
  await writeStamp(
    repository,
    outDirectory,
    [MODULE],
    [...new Set([...library.inputs, ...page.inputs, ...PARTS])],
  );
  return { fresh: false };
}

async function bundle(repository: string, entry: string): Promise<{ text: string; inputs: string[] }> {
  const options = {
    absWorkingDir: repository,
    entryPoints: [entry],
    write: false,
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    conditions: ['@dstack/source', 'module'],
    legalComments: 'none',
    // The page is one file, read as UTF-8 everywhere, and its hash is over these characters.
    charset: 'utf8',
    metafile: true,
    logLevel: 'silent',
  } as const satisfies BuildOptions;
  const result: BuildResult<typeof options> = await build(options);
  return { text: result.outputFiles[0]!.text.trim(), inputs: Object.keys(result.metafile.inputs) };
}

async function minifiedCss(css: string): Promise<string> {
  const options = {
    stdin: { contents: css, loader: 'css' },
    write: false,
    minify: true,
    charset: 'utf8',
  } as const satisfies BuildOptions;
  const result: BuildResult<typeof options> = await build(options);
  return result.outputFiles[0]!.text.trim();
}

function assemble(html: string, style: string, script: string): string {
  const policy = [
    "default-src 'none'",
    `script-src '${integrity(script)}'`,
    `style-src '${integrity(style)}'`,
    'img-src data:',
    // Evidence and collateral by URL: plain HTTP only from this machine.
    'connect-src https: http://localhost:* http://127.0.0.1:*',
    "base-uri 'none'",
    "form-action 'none'",
    // Nothing in the page makes HTML out of text.
    "require-trusted-types-for 'script'",
  ].join('; ');
  return fill(
    fill(fill(html, "default-src 'none'", policy), '<style></style>', `<style>${style}</style>`),
    '<script type="module"></script>',
    `<script type="module">${script}</script>`,
  );
}

/** By function: `$&` in a script is text, not a pattern. */
function fill(html: string, place: string, content: string): string {
  if (html.split(place).length !== 2) throw new Error(`The page must have one ${place}`);
  return html.replace(place, () => content);
}

function integrity(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}

async function replace(path: string, text: string): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`;
  await writeFile(temporary, text);
  await rename(temporary, path);
}
