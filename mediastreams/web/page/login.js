// The token travels behind the #, which no browser sends: it fills the form and is gone from the address.
// So do the page's places, #ended or #call/3, to which one comes back after the login.

function login() {
  const token = location.hash.slice(1);
  const form = document.forms[0];
  if (token.length < 16 || token.includes("/")) {
    form.action = `/page/login${location.hash}`; // what is behind the # stays in a redirect
    return;
  }
  history.replaceState(null, "", location.pathname);
  document.getElementById("token").value = token;
  form.submit();
}

// After a wrong token the address is that of the form: go back to the page's, for who reloads or copies it.
if (location.pathname === "/page/login") history.replaceState(null, "", document.referrer || "/");
addEventListener("hashchange", login); // the address with a new token, opened in this tab
login();
