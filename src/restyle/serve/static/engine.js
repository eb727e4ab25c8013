// What paints for this page: the server. The page as static files has engine_in_browser.js in the place of this file.

import { Film } from "./film.js";
import { ServerEngine } from "./server_engine.js";

export { Film };
export const engine = new ServerEngine();
