/** A page that shows the governance of a KMS domain; it only reads. */
export { reachable } from './reachable.ts';
export { type ConsoleOptions, type Health, type RunningConsole, startConsole } from './start-console.ts';
