import type { Platform } from '../platform.ts';
import { checkLocal } from './check-local.ts';
import { deployLocal } from './deploy-local.ts';
import { findLocal } from './find-local.ts';
import { logsLocal } from './logs-local.ts';
import { removeLocal, startLocal, stopLocal } from './power-local.ts';
import { listLocal, reportLocal } from './report-local.ts';
import { silentUrls } from './silent-urls.ts';

/** Machines on this host: the VMM's process driver with a simulated TEE. */
export const localPlatform: Platform = {
  check: checkLocal,
  find: findLocal,
  deploy: deployLocal,
  silentUrls,
  report: reportLocal,
  logs: logsLocal,
  stop: stopLocal,
  start: startLocal,
  remove: removeLocal,
  list: listLocal,
};
