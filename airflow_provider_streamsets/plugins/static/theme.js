// A classic script in the head: the theme is known before the first paint. "theme" is the choice of Airflow's user.
{
  const system = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const chosen = localStorage.getItem("theme");
    const isDark = chosen === "dark" || (chosen !== "light" && system.matches);
    document.documentElement.classList.toggle("dark", isDark);
  };
  apply();
  system.addEventListener("change", apply);
  addEventListener("storage", apply);
}
