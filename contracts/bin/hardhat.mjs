#!/usr/bin/env node
// `npx hardhat <task>`: starts the program that `npm run build` makes.
import { existsSync } from 'node:fs';

const program = new URL('../../dist/bin/hardhat.js', import.meta.url);
if (existsSync(program)) await import(program.href);
else {
  process.stderr.write('Error: the program is not built yet: run npm run build\n');
  process.exitCode = 1;
}
