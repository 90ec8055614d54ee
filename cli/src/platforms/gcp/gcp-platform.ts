import type { Platform } from '../platform.ts';
import { checkGcp } from './check-gcp.ts';
import { deployGcp } from './deploy-gcp.ts';
import { findGcp } from './find-gcp.ts';
import { gcpFirewall } from './gcp-firewall.ts';
import { logsGcp } from './logs-gcp.ts';
import { planGcp } from './plan-gcp.ts';
import { startGcp, stopGcp } from './power-gcp.ts';
import { removeGcp } from './remove-gcp.ts';
import { listGcp, reportGcp } from './report-gcp.ts';

/** Confidential machines of Google Cloud: Intel TDX with a vTPM. */
export const gcpPlatform: Platform = {
  check: checkGcp,
  plan: planGcp,
  find: findGcp,
  deploy: deployGcp,
  // Ports are open only when somebody opens them.
  silentUrls: () => Promise.resolve([]),
  report: reportGcp,
  logs: logsGcp,
  stop: stopGcp,
  start: startGcp,
  remove: removeGcp,
  list: listGcp,
  firewall: gcpFirewall,
};
