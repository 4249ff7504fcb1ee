"""The table: what Daypass relies on in its libraries for safety, and why it matters. The overridden is found by itself.

Entries are `module:qualified.name`. Where the reason no longer holds after an upgrade, something of Daypass has to
change; the reason says what.
"""

from __future__ import annotations

OVERRIDDEN_BY: dict[str, str] = {
    "accounts.adapters.AccountAdapter": "nobody signs up, no mail is sent, addresses come from our own proxies only.",
    "accounts.adapters.SocialAccountAdapter": "providers are our rows, nobody is linked by email or signed up, and "
    "only whom services.sign_in admitted is signed in.",
    "accounts.adapters.MfaAdapter": "the break-glass account's second factor is sealed at rest.",
    "accounts.backends.PersonBackend": "a password opens the break-glass account and no other; who is switched off "
    "is not loaded.",
    "accounts.provider.OidcProvider": "the authorization request is all ours, and allauth's own flow is out of reach.",
    "accounts.provider.SamlProvider": "the request's id is ours and is what the state is kept under.",
    "accounts.provider._Verified": "a verified sign-in is who it is and nothing else: no email, no extra data.",
    "accounts.second_factor._Once": "a code is taken once, and the database says so.",
    "accounts.second_factor._Key": "a key's answer is checked by allauth as it was sent; only what is said is ours.",
    "accounts.second_factor.AddKeyForm": "a new key is checked by allauth as it was sent; only what is said is ours.",
    "accounts.second_factor.ConfirmWithKey": "a key that was refused confirms nothing.",
    "accounts.second_factor.RemoveKey": "what is removed is allauth's choice; ours is what is said before.",
    "broker.cache.ForgetfulCache": "a cache that is away is an empty one; the break-glass account opens without it.",
    "accounts.saml._Sender": "a signed request carries no empty RelayState, which not every provider verifies.",
    "broker.administration.DaypassAdminSite": "one rule says who may use the admin, and there is no password door.",
    "broker.aws.bounded._Pool": "connections to AWS are those that end in time.",
    "broker.aws.bounded._SecurePool": "connections to AWS are those that end in time.",
    "broker.aws.bounded._Timed": "connecting to AWS, sending and reading have one end together.",
    "broker.backoffice.objects.DaypassAdmin": "the admin writes through services, which record, and deletes nothing.",
    "broker.backoffice.objects.CappedPaginator": "a list of ten million rows is not counted to its end for every page.",
    "broker.backoffice.objects.DetailAdmin": "the admin writes through services, which record, and deletes nothing.",
    "broker.backoffice.rights.Rights": "who may open the admin may do what a page offers, and nobody deletes anything.",
    "broker.backoffice.writing.ServiceForm": "a form's last step is one service call; Django itself saves nothing.",
    "broker.entitlements.queries.search.Among": "ids of a search are read first on PostgreSQL; what is compared is "
    "the same.",
    "broker.entitlements.queries.search.Folded": "names are compared folded, on both databases alike.",
    "broker.minting.kms.KmsCurveKey": "it signs with what KMS answers, and has no private half to give away.",
    "broker.minting.kms.KmsPrivateKey": "it signs with what KMS answers, and has no private half to give away.",
    "broker.serving.Connection": "what has been read of a request is handed to gunicorn's own parser, whole.",
    "broker.serving.PatientWorker": "a thread is given to whole requests only; who dawdles is waited for without one.",
    "broker.sqlite.base.DatabaseWrapper": "the turn is taken before a transaction and given back after it, always.",
}
"""Our classes -> why their overrides matter."""

RELIED_ON: tuple[tuple[str, str], ...] = (
    # --- allauth: from a verified sign-in to a session
    (
        "The one way from an admitted sign-in to a session: looks up only by (provider id, account id), asks our "
        "adapter before anything else, and signs in nobody else.",
        """
        allauth.socialaccount.helpers:complete_social_login
        allauth.socialaccount.internal.flows.login:complete_login
        allauth.socialaccount.internal.flows.login:pre_social_login
        allauth.socialaccount.internal.flows.login:_authenticate
        allauth.socialaccount.internal.flows.login:_login
        allauth.socialaccount.internal.flows.login:record_authentication
        allauth.socialaccount.models:SocialLogin.is_existing
        allauth.socialaccount.models:SocialLogin.is_headless
        allauth.socialaccount.models:SocialLogin.lookup
        allauth.socialaccount.models:SocialLogin._lookup_by_socialaccount
        allauth.socialaccount.models:SocialLogin._lookup_by_email
        allauth.socialaccount.models:SocialLogin._accept_login
        allauth.socialaccount.models:SocialLogin.get_redirect_url
        allauth.socialaccount.providers.base.provider:Provider.sociallogin_from_response
        allauth.socialaccount.providers.base.provider:Provider.sub_id
        allauth.socialaccount.adapter:DefaultSocialAccountAdapter.get_provider
        allauth.socialaccount.adapter:DefaultSocialAccountAdapter.get_app
        allauth.account.utils:perform_login
        allauth.account.internal.flows.login:perform_login
        allauth.account.internal.flows.login:resume_login
        allauth.account.internal.flows.login:record_authentication
        allauth.account.adapter:DefaultAccountAdapter.pre_login
        allauth.account.adapter:DefaultAccountAdapter.post_login
        allauth.account.adapter:DefaultAccountAdapter.login
        allauth.account.adapter:DefaultAccountAdapter.logout
        allauth.account.adapter:DefaultAccountAdapter.get_login_stages
        """,
    ),
    (
        "The state of a sign-in under way lives in the session of the browser that began it, for one provider, for ten "
        "minutes, and is gone once it was read.",
        """
        allauth.socialaccount.internal.statekit:stash_state
        allauth.socialaccount.internal.statekit:unstash_state
        allauth.socialaccount.internal.statekit:gc_states
        allauth.socialaccount.internal.statekit:get_states
        allauth.socialaccount.internal.statekit:STATE_TTL
        allauth.socialaccount.internal.statekit:MAX_STATES
        allauth.socialaccount.providers.base.provider:Provider.stash_redirect_state
        allauth.socialaccount.providers.base.provider:Provider.unstash_redirect_state
        """,
    ),
    # --- allauth: the break-glass door
    (
        "A password is checked once, in equal time whether or not the account exists, by our backend, with a limit on "
        "failures; then every stage is passed before there is a session.",
        """
        allauth.account.auth_backends:AuthenticationBackend
        allauth.account.views:LoginView
        allauth.account.forms:LoginForm.clean
        allauth.account.forms:LoginForm.login
        allauth.account.internal.flows.login:perform_password_login
        allauth.account.adapter:DefaultAccountAdapter.pre_authenticate
        allauth.account.adapter:DefaultAccountAdapter.authenticate
        allauth.account.adapter:DefaultAccountAdapter.reauthenticate
        allauth.account.stages:LoginStageController
        allauth.account.internal.stagekit:stash_login
        allauth.account.internal.stagekit:unstash_login
        allauth.mfa.stages:AuthenticateStage
        allauth.account.middleware:AccountMiddleware
        """,
    ),
    (
        "A second factor is asked for, checked against the account's own, and limited in tries.",
        """
        allauth.mfa.base.forms:BaseAuthenticateForm.clean_code
        allauth.mfa.base.forms:AuthenticateForm
        allauth.mfa.base.forms:ReauthenticateForm
        allauth.mfa.base.views:AuthenticateView
        allauth.mfa.base.views:ReauthenticateView
        allauth.mfa.utils:is_mfa_enabled
        allauth.mfa.totp.internal.auth:validate_totp_code
        allauth.mfa.totp.internal.auth:yield_hotp_counters_from_time
        allauth.mfa.totp.internal.auth:hotp_value
        allauth.mfa.totp.internal.auth:format_hotp_value
        allauth.mfa.totp.internal.auth:_is_insecure_bypass
        allauth.mfa.totp.internal.auth:TOTP
        allauth.core.internal.cryptokit:compare_user_code
        allauth.core.internal.cryptokit:normalize_user_code
        allauth.mfa.recovery_codes.internal.auth:RecoveryCodes
        allauth.mfa.webauthn.internal.auth:get_server
        allauth.mfa.webauthn.internal.auth:complete_registration
        allauth.mfa.webauthn.internal.auth:complete_authentication
        allauth.mfa.webauthn.internal.auth:begin_registration
        allauth.mfa.webauthn.internal.auth:begin_authentication
        allauth.mfa.webauthn.internal.auth:get_credentials
        allauth.mfa.webauthn.internal.auth:get_authenticator_by_credential_id
        allauth.mfa.webauthn.forms:AuthenticateWebAuthnForm
        allauth.mfa.webauthn.forms:ReauthenticateWebAuthnForm
        allauth.mfa.webauthn.views:AddWebAuthnView
        allauth.mfa.webauthn.views:RemoveWebAuthnView
        allauth.mfa.webauthn.views:EditWebAuthnView
        fido2.server:Fido2Server.register_complete
        fido2.server:Fido2Server.authenticate_complete
        fido2.rpid:verify_rp_id
        allauth.mfa.totp.views:ActivateTOTPView.dispatch
        allauth.mfa.totp.views:DeactivateTOTPView.dispatch
        allauth.account.decorators:reauthentication_required
        allauth.account.internal.flows.reauthentication:raise_if_reauthentication_required
        allauth.account.internal.flows.reauthentication:did_recently_reauthenticate
        """,
    ),
    (
        "Failed tries are counted in the cache that all processes share, never per session.",
        """
        allauth.core.ratelimit:consume
        allauth.core.internal.ratelimit:consume
        allauth.account.app_settings:AppSettings.RATE_LIMITS
        """,
    ),
    (
        "The list of a person's browser sessions is kept in step with them.",
        """
        allauth.usersessions.models:UserSessionManager.create_from_request
        allauth.usersessions.models:UserSession.end
        allauth.usersessions.apps:UserSessionsConfig.ready
        allauth.usersessions.signals:on_user_logged_in
        allauth.usersessions.middleware:UserSessionsMiddleware
        """,
    ),
    # --- Django: sessions, CSRF, requests
    (
        "A sign-in gives the session a new key, and a session of somebody whose password changed is not theirs.",
        """
        django.contrib.auth:login
        django.contrib.auth:logout
        django.contrib.auth:get_user
        django.contrib.auth:authenticate
        django.contrib.auth.backends:ModelBackend.user_can_authenticate
        django.contrib.auth.middleware:AuthenticationMiddleware
        django.contrib.auth.middleware:get_user
        django.contrib.auth.base_user:AbstractBaseUser.get_session_auth_hash
        """,
    ),
    (
        "The browser holds a random id; what is in a session is on our side, as JSON, in the database.",
        """
        django.contrib.sessions.middleware:SessionMiddleware
        django.contrib.sessions.backends.base:SessionBase.cycle_key
        django.contrib.sessions.backends.base:SessionBase.flush
        django.contrib.sessions.backends.base:SessionBase._get_new_session_key
        django.contrib.sessions.backends.base:SessionBase._validate_session_key
        django.contrib.sessions.backends.base:SessionBase.decode
        django.contrib.sessions.backends.base:SessionBase.get_expiry_age
        django.contrib.sessions.backends.db:SessionStore
        django.core.signing:JSONSerializer
        django.core.signing:TimestampSigner
        """,
    ),
    (
        "Every unsafe request carries a token, and an Origin that is ours.",
        """
        django.middleware.csrf:CsrfViewMiddleware
        django.middleware.csrf:_does_token_match
        django.middleware.csrf:rotate_token
        django.views.decorators.csrf:csrf_exempt
        """,
    ),
    (
        "The request's host, body and fields are bounded before they are read, and its scheme is what WSGI says.",
        """
        django.http.request:HttpRequest.get_host
        django.http.request:HttpRequest._get_scheme
        django.http.request:HttpRequest.scheme
        django.http.request:HttpRequest.body
        django.http.request:HttpRequest._load_post_and_files
        django.http.request:QueryDict.__init__
        django.core.handlers.wsgi:WSGIRequest.__init__
        django.core.handlers.wsgi:LimitedStream
        """,
    ),
    (
        "What goes wrong in a view or middleware becomes our own quiet page, and a header is never split.",
        """
        django.core.handlers.exception:response_for_exception
        django.core.handlers.exception:handle_uncaught_exception
        django.core.handlers.base:BaseHandler.load_middleware
        django.core.handlers.base:BaseHandler._get_response
        django.http.response:ResponseHeaders._convert_to_charset
        django.http.response:HttpResponseRedirectBase
        """,
    ),
    (
        "Text is escaped on its way into a page, and a wanted page is one of ours.",
        """
        django.utils.html:escape
        django.utils.html:conditional_escape
        django.template.base:render_value_in_context
        django.utils.http:url_has_allowed_host_and_scheme
        django.utils.http:_url_has_allowed_host_and_scheme
        """,
    ),
    (
        "Headers that keep pages private and out of frames are on every answer.",
        """
        django.middleware.security:SecurityMiddleware
        django.middleware.clickjacking:XFrameOptionsMiddleware
        csp.middleware:CSPMiddleware.process_response
        csp.middleware:CSPMiddleware._make_nonce
        csp.middleware:CSPMiddleware.get_policy_parts
        csp.utils:build_policy
        whitenoise.middleware:WhiteNoiseMiddleware.__call__
        whitenoise.middleware:WhiteNoiseMiddleware.candidate_paths_for_url
        """,
    ),
    # --- Django: the database and the cache
    (
        "Transactions begin, end and nest as services and the audit log expect; SQLite's own are wrapped by our turn.",
        """
        django.db.transaction:Atomic
        django.db.backends.base.base:BaseDatabaseWrapper.commit
        django.db.backends.base.base:BaseDatabaseWrapper.rollback
        django.db.backends.base.base:BaseDatabaseWrapper.close
        django.db.backends.base.base:BaseDatabaseWrapper.set_autocommit
        django.db.backends.sqlite3.base:DatabaseWrapper.get_connection_params
        django.db.backends.sqlite3.base:DatabaseWrapper.is_in_memory_db
        """,
    ),
    (
        "broker.prepared keeps the SQL that a query compiled to and binds its parameters anew: order, number and "
        "conversion have to be what they are here.",
        """
        django.db.models.sql.compiler:SQLCompiler.as_sql
        django.db.models.sql.compiler:SQLCompiler.get_converters
        django.db.models.sql.compiler:SQLCompiler.apply_converters
        django.db.models.sql.query:Query.get_compiler
        django.db.models.fields:Field.get_db_prep_save
        django.db.models.base:Model.from_db
        """,
    ),
    (
        "Counting in Redis is one atomic step for all processes.",
        """
        django.core.cache.backends.redis:RedisCacheClient.add
        django.core.cache.backends.redis:RedisCacheClient.incr
        """,
    ),
    # --- python3-saml: what it still does for us
    (
        "Our signed requests and our metadata say what we mean and are signed as they say; settings are taken "
        "as given.",
        """
        onelogin.saml2.auth:OneLogin_Saml2_Auth.__init__
        onelogin.saml2.auth:OneLogin_Saml2_Auth.login
        onelogin.saml2.auth:OneLogin_Saml2_Auth.logout
        onelogin.saml2.auth:OneLogin_Saml2_Auth.redirect_to
        onelogin.saml2.auth:OneLogin_Saml2_Auth.add_request_signature
        onelogin.saml2.auth:OneLogin_Saml2_Auth.add_response_signature
        onelogin.saml2.auth:OneLogin_Saml2_Auth._build_signature
        onelogin.saml2.auth:OneLogin_Saml2_Auth._build_sign_query
        onelogin.saml2.authn_request:OneLogin_Saml2_Authn_Request.__init__
        onelogin.saml2.authn_request:OneLogin_Saml2_Authn_Request._generate_request_id
        onelogin.saml2.logout_request:OneLogin_Saml2_Logout_Request.__init__
        onelogin.saml2.logout_request:OneLogin_Saml2_Logout_Request._generate_request_id
        onelogin.saml2.logout_response:OneLogin_Saml2_Logout_Response.build
        onelogin.saml2.logout_response:OneLogin_Saml2_Logout_Response.get_response
        onelogin.saml2.settings:OneLogin_Saml2_Settings.__init__
        onelogin.saml2.settings:OneLogin_Saml2_Settings.check_settings
        onelogin.saml2.utils:OneLogin_Saml2_Utils.redirect
        onelogin.saml2.utils:OneLogin_Saml2_Utils.sign_binary
        """,
    ),
    (
        "A signature is verified with the one pinned certificate that is given, over the element that is given, with "
        "nothing else in reach, and everything but success raises or is False.",
        """
        onelogin.saml2.utils:OneLogin_Saml2_Utils.validate_sign
        onelogin.saml2.utils:OneLogin_Saml2_Utils.validate_node_sign
        onelogin.saml2.utils:OneLogin_Saml2_Utils.format_cert
        onelogin.saml2.xml_utils:OneLogin_Saml2_XML.to_etree
        onelogin.saml2.xml_utils:OneLogin_Saml2_XML.query
        """,
    ),
    # --- PyJWT
    (
        "An ID token's signature is verified with the given key and the given algorithm, and `none` is none of them.",
        """
        jwt.api_jws:PyJWS.__init__
        jwt.api_jws:PyJWS.decode_complete
        jwt.api_jws:PyJWS._load
        jwt.api_jws:PyJWS._verify_signature
        jwt.api_jws:PyJWS._validate_headers
        jwt.algorithms:RSAAlgorithm
        jwt.algorithms:ECAlgorithm
        """,
    ),
    # --- gunicorn
    (
        "A request is read within limits, headers with underscores are dropped but for the one named, and what WSGI is "
        "told is what came.",
        """
        gunicorn.http.message:HeaderPolicy
        gunicorn.http.message:Message
        gunicorn.http.message:Request.parse_request_line
        gunicorn.http.message:Request.set_body_reader
        gunicorn.http.wsgi:create
        gunicorn.http.wsgi:Response.process_headers
        gunicorn.http.message:Request.parse
        gunicorn.http.unreader:SocketUnreader
        gunicorn.workers.gthread:TConn.set_timeout
        gunicorn.workers.gthread:TConn.close
        gunicorn.workers.gthread:PollableMethodQueue
        gunicorn.workers.gthread:ThreadWorker.run
        gunicorn.workers.gthread:ThreadWorker.init_process
        gunicorn.workers.gthread:ThreadWorker.enqueue_req
        gunicorn.workers.gthread:ThreadWorker.set_accept_enabled
        gunicorn.workers.gthread:ThreadWorker.wait_for_and_dispatch_events
        gunicorn.workers.gthread:ThreadWorker.murder_keepalived
        gunicorn.workers.gthread:ThreadWorker.handle
        gunicorn.workers.gthread:ThreadWorker.handle_request
        """,
    ),
    # --- AWS
    (
        "Unsigned calls carry no credential, AWS's own endpoints are chosen as asked, and an answer's status, headers "
        "and error are where broker.aws reads them.",
        """
        botocore.signers:RequestSigner.handler
        botocore.signers:RequestSigner.sign
        botocore.parsers:ResponseParser.parse
        botocore.parsers:BaseXMLResponseParser
        botocore.parsers:QueryParser
        botocore.endpoint:convert_to_response_dict
        botocore.httpsession:URLLib3Session
        botocore.utils:get_environ_proxies
        """,
    ),
    (
        "A request to AWS ends in time: time-outs are asked of the connection before each step, an answer is read "
        "through response_class, and a connection is opened to the first address that is given.",
        """
        botocore.awsrequest:AWSConnection
        urllib3.connection:HTTPConnection.request
        urllib3.connection:HTTPConnection.getresponse
        urllib3.connection:HTTPSConnection.connect
        urllib3.util.connection:create_connection
        """,
    ),
    # --- Celery
    (
        "A worker takes JSON and nothing else; a message whose worker died comes back.",
        """
        kombu.serialization:SerializerRegistry.loads
        kombu.serialization:SerializerRegistry.dumps
        kombu.transport.redis:QoS.restore_visible
        kombu.transport.redis:QoS.restore_by_tag
        kombu.transport.redis:QoS.ack
        celery.worker.request:Request.on_failure
        celery.worker.request:Request.on_success
        """,
    ),
    (
        "A database address from the environment means what it says: TLS options are not lost on the way.",
        """
        dj_database_url:parse
        """,
    ),
)
"""Why -> what is relied on."""

COMPILED: dict[str, str] = {
    "lxml": "It parses what strangers send: read its and libxml2's changes, above all to entities, network, limits.",
    "xmlsec": "It verifies and makes XML signatures: read its and libxmlsec's changes, above all to references, "
    "transforms, keys; it has to bring libxml2 of the same series as lxml.",
    "cryptography": "It verifies signatures of ID tokens and logout messages and seals secrets: read its changes.",
}
"""Packages without Python source for what matters. tests/accounts/test_libraries.py tries what is relied on."""
