import type { Place } from '../platform.ts';
import { ComputeApi } from './api/compute-api.ts';
import { type GcpSession, openSession } from './api/gcp-session.ts';
import { StorageApi } from './api/storage-api.ts';
import { type GcpSettings, gcpSettings } from './gcp-settings.ts';

/** A project on Google Cloud, with its settings and the services that it needs. */
export interface GcpPlace {
  readonly place: Place;
  readonly settings: GcpSettings;
  readonly session: GcpSession;
  readonly compute: ComputeApi;
  readonly storage: StorageApi;
}

/** @throws CliError `bad_app_json`, `no_credentials` */
export async function openGcp(place: Place): Promise<GcpPlace> {
  const settings = gcpSettings(place);
  const session = await openSession(place.context);
  const compute = new ComputeApi(session, settings.project);
  return { place, settings, session, compute, storage: new StorageApi(session) };
}
