export { type Context, createContext, type Host } from './context.ts';
export { CliError, type CliErrorCode, EXIT } from './errors.ts';
export { runCli } from './run-cli.ts';
