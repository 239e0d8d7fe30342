import { defineConfig } from "vite";

// Into the Python package's data; relative base, because the server chooses the path it serves under.
export default defineConfig({
  root: "dashboard",
  base: "./",
  build: {
    outDir: "../../src/openegress/api/static/dashboard",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    reportCompressedSize: false,
    chunkSizeWarningLimit: 700,
    rolldownOptions: {
      output: { entryFileNames: "dashboard.js", assetFileNames: "dashboard[extname]", codeSplitting: false },
    },
  },
});
