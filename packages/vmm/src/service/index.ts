export { loadConfig, shownConfig } from './config/load-config.ts';
export { runOneShot } from './one-shot.ts';
export { createLog, serve } from './serve.ts';
export { checkFiles } from './server/check-files.ts';
